const drawn = (details) => {
  const box = details.querySelector(".plot");
  if (!details.open || box.childElementCount) return;
  const plot = JSON.parse(document.getElementById(box.dataset.of).textContent);
  Plotly.newPlot(
    box,
    plot.data,
    { ...plot.layout, width: undefined, autosize: true },
    { responsive: true, displaylogo: false },
  );
};
for (const details of document.querySelectorAll("details.interactive"))
  details.addEventListener("toggle", () => drawn(details));
