"""One module for each figure of the paper, and for each further question.

jobs(context) -> {key: Job}        what to train, and what to measure of each model
result(context, outputs)           the result; `outputs` are the jobs' results under the same keys
claims(result) -> [Claim]          each sentence that the figure supports, and whether it holds
tabulate(result) -> str            the numbers
draw(result, folder) -> paths      the figure: NAME.png and NAME.svg
files(result) -> {name: text}      optional: further files to write
examples(result) -> str            optional: text of models, printed at the end of a run
"""
