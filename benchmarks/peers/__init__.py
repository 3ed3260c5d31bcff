"""FlowGRPO beside TRL's DDPO: each in its own environment and process, in turns, on the same work.

python -m benchmarks.peers [--quick] [--trl PYTHON]
"""
