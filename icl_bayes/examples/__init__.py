"""Models of one's own, each in one file: a NumPyro model, the law of its covariates, the task, and data to try it on.

icl-bayes train task=icl_bayes.examples.eight_schools:task minutes=5
"""
