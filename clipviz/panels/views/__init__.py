"""What each panel sends to its script, as types: `NAMEView` is the view, `NAMEArrays` its arrays.

`tools/js/views.py` writes `views.d.ts` from them, so that the scripts are checked against what Python says it sends;
the tests of the panels check that Python sends it (tests/panels/views.py). A class with total=False holds what a view
may lack: a panel that has nothing to show sends a message alone.
"""
