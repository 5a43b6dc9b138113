"""Names of scenarios as settings give them: one, a list, ``all``, or addresses of tasks of one's own."""

from __future__ import annotations

from typing import Any


def as_list(value: Any) -> list[Any]:
    """A list as it is, anything else as a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def scenarios_of(family: str, scenario: Any) -> list[str]:
    """Scenario names out of one, a list, or ``all``; unknown ones raise a ValueError that lists the choices."""
    from icl_bayes.tasks import CUSTOM, FAMILIES, load_program

    if family == CUSTOM:
        addresses = list(dict.fromkeys(str(one) for one in as_list(scenario)))
        for address in addresses:
            load_program(address)
        return addresses
    if family not in FAMILIES:
        raise ValueError(f"Unknown family {family!r}; choices: {', '.join([*FAMILIES, CUSTOM])}.")
    known = [str(one) for one in FAMILIES[family].scenarios]
    if scenario == "all":
        return known
    wanted = [str(one) for one in as_list(scenario)]
    unknown = [one for one in wanted if one not in known]
    if unknown or not wanted:
        raise ValueError(
            f"Unknown scenario(s) {', '.join(unknown) or '(none given)'} of family {family!r}; "
            f"choices: {', '.join(known)}, or 'all'."
        )
    return list(dict.fromkeys(wanted))
