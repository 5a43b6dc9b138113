"""What ``--help`` prints. Loads nothing that takes time."""

from __future__ import annotations

from icl_bayes.config.files import choices, groups_of

SUMMARIES = {
    "train": "train a network for one task; an interrupted run goes on where it stopped",
    "sample": "posterior draws for a CSV file, by a trained network",
    "glm": "the certified posterior of a regression: a CSV file and a formula",
    "evaluate": "score methods on test sets: records, tables, quality against time",
    "reproduce": "compute a table of the paper again, its printed numbers beside ours",
    "calibrate": "test networks over simulated data sets: ranks, coverage, TARP, divergence",
    "demo": "networks beside NUTS, VI, Laplace and the reference on bundled real data",
}

OVERVIEW = """\
icl-bayes: in-context Bayesian inference. A network reads a data set and returns joint posterior draws.

usage: icl-bayes COMMAND [NAME=VALUE ...] [--help]

commands:
{commands}

Every setting is given as NAME=VALUE; 'icl-bayes COMMAND --help' says which there are.
examples:
  icl-bayes demo
  icl-bayes sample data.csv --target y --net glm/1 --out posterior.csv
  icl-bayes glm data.csv "y ~ x1 + C(group)" --family poisson --report report.html
  icl-bayes train task=glm scenario=5 model=small
"""

TEXTS = {
    "train": """\
settings:
  scenario=5                  which of the task's scenarios (short for task.scenario)
  task=MODULE:NAME            a model of one's own: icl_bayes.Task.from_numpyro(...), or a function that returns one
  out=DIR                     directory of the run (default runs/TASK-SCENARIO-EXPERIMENT)
  minutes=5                   choose the number of steps so that training takes about as long here
  num_steps=4000 seed=0       short for training.num_steps, training.seed
  evaluate=false              leave out the periodic held-out C2ST
  distributed=true            several hosts train together; start the command on each (cluster environments are
                              detected; elsewhere set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID)
  task.* model.* flow.* targets.* training.*   everything else; --cfg prints them all

examples:
  icl-bayes train task=glm scenario=5 model=small
  icl-bayes train scenario=3 experiment=exact_start minutes=10
  icl-bayes train task=icl_bayes.examples.eight_schools:task minutes=5 out=runs/schools
  icl-bayes train --multirun scenario=1,2,3 hydra/launcher=parallel
""",
    "sample": """\
usage: icl-bayes sample DATA.csv [--target COLUMN] --net NAME_OR_DIRECTORY [options]

options:
  --target COLUMN             the response; not for factor analysis, which has none
  --net NAME                  a shipped network such as glm/1, glm/5/gaussian or fa/3, or a directory
  --task MODULE:NAME          for a network of a model of one's own; its rows are the columns of these names
  --draws 1000                number of posterior draws
  --seed 0                    of the draws
  --out FILE                  write the draws: .csv, .npz or .nc (ArviZ)
  --features a,b,c            feature columns in order (default: all but the target)
  --standardize               scale features, and a Gaussian response, to mean 0 and standard deviation 1
  --solver-steps 4            steps of the solver (default: the network's own)
  --polish 5                  HMC moves from every draw (default: none)
  --refine                    check the draws, repair them where that is needed, and print the certificate

Each option may also be given as NAME=VALUE, e.g. draws=2000.
examples:
  icl-bayes sample data.csv --target y --net glm/1
  icl-bayes sample data.csv --target y --net glm/5 --standardize --draws 4000 --out posterior.nc
""",
    "glm": """\
usage: icl-bayes glm DATA.csv "FORMULA" [options]

options:
  --family gaussian           or bernoulli, binomial, poisson, negative_binomial, gamma
  --prior "x1=normal(0, 1)"   prior of a column, of Intercept, of all columns not named (coefficients), of sigma,
                              overdispersion or dispersion; may be given again. Forms: normal(loc, scale),
                              student_t(df, loc, scale), laplace(loc, scale), half_normal(scale),
                              half_student_t(df, scale), gamma(shape, rate), exponential(rate),
                              root_inverse_gamma(shape, scale)
  --offset COLUMN             added to the linear predictor, such as the logarithm of an exposure
  --weights COLUMN            how often a row was observed
  --precision COLUMN          known precisions of Gaussian responses, relative to 1 / sigma^2
  --trials COLUMN             numbers of trials of a binomial response
  --missing refuse            rows with missing cells; or drop them, or integrate missing cells of numeric columns out
  --engine auto               or gaussian, network: what draws are made by at first
  --draws 1000 --seed 0       posterior draws
  --out FILE                  write the posterior: .nc (ArviZ) or .csv
  --report FILE               write an HTML page: estimates, priors, fit, certificate

Each option may also be given as NAME=VALUE, e.g. draws=2000.
examples:
  icl-bayes glm data.csv "y ~ x1 + x2"
  icl-bayes glm visits.csv "visits ~ age + C(clinic) + age:x" --family negative_binomial --offset log_months
""",
    "evaluate": """\
settings:
  family=glm 'scenario=[1,5]' scenarios; scenario=all for all of them
  'methods=[icl,laplace]'     icl is the shipped network, icl/laplace another variant of it, icl@2 with two solver
                              steps, icl+polish@5 with five moves, icl+refine with the repairs that its certificate
                              asks for; laplace, map, exact, nuts, nuts_jit, vi_fixed_point, vi_diagonal, vi_full,
                              vi_structured, vi_iaf; parallel_hmc@K with K moves from Laplace's draws
                              (parallel_hmc@K:variational, :prior, in mixtures :em: from others)
  task=MODULE:NAME            a model of one's own, with networks=DIR
  num_datasets=8              data sets per scenario (real tables: 0 for all)
  num_rows=50 num_columns=5   size of every data set, by default the paper's
  seed=10000                  below 10000 for choosing settings, from there on for results
  networks=DIR                a training run, or a tree of networks, instead of the shipped ones
  out=DIR                     where records, tables, figures and the report go; a second run completes the first
  data.path=F data.target=C   with data=csv
  data.* baseline.* evaluation.*   everything else; --cfg prints them all

examples:
  icl-bayes evaluate family=glm 'scenario=[1,5]' 'methods=[icl,laplace,nuts]' num_datasets=8 seed=7 out=runs/a
  icl-bayes evaluate scenario=6 data=bundled num_datasets=0 out=runs/real
  icl-bayes evaluate --multirun scenario=1,2,3,4 hydra/launcher=parallel out=runs/sweep
""",
    "reproduce": """\
settings:
  table=12                    the paper's table: 12 (GLM, all scenarios), 1, 2 or 8; 13 (factor analysis) or 3;
                              14 (mixtures) or 4; ood: data that the model was not made for, with family=glm|fa|gmm;
                              sbibm: the benchmark of simulation-based inference (pip install --no-deps sbibm)
  preset=quick                quick: one data set of each kind per scenario; paper: 50, and every real table
  num_datasets=1 num_tables=1 simulated and real data sets per scenario
  scenario=5                  some of the table's scenarios only
  'methods=[icl,vi_full]'     some of the methods only
  real=bundled                or openml336, the paper's real tables
  out=DIR                     default runs/table-TABLE-PRESET; a second run completes the first

examples:
  icl-bayes reproduce table=12 preset=quick
  icl-bayes reproduce table=12 preset=paper out=runs/table12
""",
    "calibrate": """\
settings:
  family=glm 'scenario=[1,5]' scenarios; scenario=all for all of them
  task=MODULE:NAME            a model of one's own, with networks=DIR
  num_datasets=2000           simulated data sets per scenario
  num_draws=200               posterior draws of each
  polish=5                    test draws after five HMC moves; refine=true: what certificates let pass
  narrow=0.9                  a control that has to fail: draws shrunk by a tenth about their mean
  level=0.01                  probability with which a scenario fails by chance, all its tests together
  divergence_datasets=200     also KL(p|q) + KL(q|p) of raw draws, averaged over so many data sets
  seed=10000                  below 10000 for choosing settings, from there on for results
  networks=DIR                a training run, or a tree of networks, instead of the shipped ones
  out=DIR                     where records and plots go (default runs/calibration)

examples:
  icl-bayes calibrate family=glm scenario=1
  icl-bayes calibrate family=fa scenario=all refine=true num_datasets=500
""",
    "demo": """\
settings:
  family=glm                  or fa, efa (factor analysis), gmm (mixtures)
  'scenario=[1,5,6]'          scenarios shown
  'methods=[icl,nuts,laplace,vi_full]'
  out=DIR                     default runs/demo

examples:
  icl-bayes demo
  icl-bayes demo family=fa
  icl-bayes demo scenario=5 'methods=[icl,parallel_hmc@2]' out=runs/look
""",
}
COMMON = """\
options:
  --cfg                       print the composed settings and stop
  --traceback                 show where an error arose
  -h, --help                  this text
"""
MULTIRUN = "  -m, --multirun              run every combination of settings with several values, e.g. scenario=1,2\n"


def overview() -> str:
    """The text of ``icl-bayes --help``."""
    return OVERVIEW.format(commands="\n".join(f"  {name:<11} {text}" for name, text in SUMMARIES.items()))


def command_help(command: str) -> str:
    """The text of ``icl-bayes COMMAND --help``."""
    lines = [f"icl-bayes {command}: {SUMMARIES[command]}", ""]
    if command not in ("sample", "glm"):
        lines += [f"usage: icl-bayes {command} [NAME=VALUE ...] [options]", ""]
    groups = groups_of(command)
    if groups:
        lines.append("groups (GROUP=CHOICE):")
        lines += [f"  {group:<11} {', '.join(choices(group))}" for group in groups]
        if command in ("train", "evaluate"):
            lines.append(f"  hydra/launcher (with --multirun): {', '.join(choices('hydra/launcher'))}")
        lines.append("")
    options = COMMON.replace("options:\n", f"options:\n{MULTIRUN}") if command in ("train", "evaluate") else COMMON
    return "\n".join(lines) + TEXTS[command] + "\n" + options
