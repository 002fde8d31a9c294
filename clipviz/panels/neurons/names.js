// Neurons of a layer, or features of a dictionary.

/**
 * The fields of the selection that name a unit of those on show.
 * @param {NeuronsView} view
 * @param {number} neuron
 */
export const named = ({ layer, dictionary }, neuron) => ({ layer, neuron, dictionary });

/** The name of a unit of the kind shown. @param {NeuronsView} view */
export const noun = ({ dictionary }) => (dictionary ? "feature" : "neuron");
