"""Every figure of the paper, and questions of ours: one module each.

jobs(context) -> {key: Job}        what to train, and what to measure of each model
result(context, outputs)           the result; `outputs` are the jobs' results under the same keys
claims(result) -> [Claim]          one for each sentence that the figure supports: does it hold?
tabulate(result) -> str            the numbers
draw(result, folder) -> paths      the figure: NAME.png and NAME.svg
files(result) -> {name: text}      optional: further files to write
"""
