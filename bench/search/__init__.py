"""Sample efficiency: our strategies and what people use today, on learning curves, paid in epochs.

``python -m bench search --engines asha,syne-hypertune --seeds 5 --workers 1 --problems lcbench``

| module | what is in it |
|---|---|
| ``problems`` | the curves: LCBench's surrogate, TaskSet's tables |
| ``protocol`` | one study on a virtual clock, and what an engine is |
| ``ours`` | our strategies as engines |
| ``children`` | the peers as engines: environments, child processes |
| ``peers/`` | their scripts and pinned requirements |
| ``results`` | rows in a file, the table |
| ``command`` | the command |
"""
