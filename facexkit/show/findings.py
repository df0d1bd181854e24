"""Findings in words: short sentences with their numbers, made from results."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr

from facexkit.show.readings import METHODS, Reading, Subject, ranked, read_regions, subjects, title_of


def findings(results: xr.Dataset | Iterable[xr.Dataset]) -> list[str]:
    """Say what results show, most important first.

    A finding rests on the decision share where there is one; FaceX's score stands beside it, and a sentence says so
    where the two disagree on the first place.

    Parameters
    ----------
    results : what `fx.score_regions` gave: one Dataset or several, of one or several methods, classes and models.
    """
    return [sentence for group in grouped_findings(subjects(results)) for sentence in group]


def grouped_findings(people: list[Subject]) -> list[list[str]]:
    """Return the sentences on each subject, and last those on their differences if there are any."""
    said = []
    for place, subject in enumerate(people):
        twin = next((other for other in people[:place] if _mirrors(other, subject)), None)
        said.append(of_subject(subject) if twin is None else [_mirrored(twin, subject)])
    contrasts = [s for k, a in enumerate(people) for b in people[k + 1 :] if (s := contrast(a, b))]
    return said + ([contrasts] if contrasts else [])


def _mirrors(a: Subject, b: Subject) -> bool:
    """Return whether b is the other class of a two-class model, whose margin is a's with the sign turned."""
    one, two = a.by("share"), b.by("share")
    if a.model != b.model or one is None or two is None:
        return False
    return np.allclose(one.score, two.score, rtol=0, atol=1e-4, equal_nan=True)


def _mirrored(a: Subject, b: Subject) -> str:
    return f"{_decision(b)} has the same decision shares as “{a.class_name}”: of two classes, one is the other's opposite."


def of_subject(subject: Subject) -> list[str]:
    """Return the sentences on one class of one model."""
    said = []
    share, facex = subject.by("share"), subject.by("facex")
    if share is not None:
        said += _on_share(subject, share)
    if facex is not None:
        said += _on_facex(subject, facex, share)
    return said


def _on_share(subject: Subject, share: xr.Dataset) -> list[str]:
    best = ranked(share)
    if not best or best[0].value <= 0 or best[0].low <= 0:
        return [f"No single region can be shown to carry the decision {_decision(subject)}{_largest(best)}."]
    first = best[0]
    said = [
        f"The decision {_decision(subject)} rests most on the {title_of(first.region)}: exchanging it alone moves the "
        f"decision {first.text} of the way{_behind(first)}."
    ]
    rest = [r for r in best[1:3] if r.low > 0]
    if rest:
        named = " and ".join(f"the {title_of(r.region)} ({r.text})" for r in rest)
        together = METHODS["share"].say(sum(r.value for r in (first, *rest)))
        said.append(f"Next {'comes' if len(rest) == 1 else 'come'} {named}; with the first they carry {together}.")
    if "total" in share:
        said.append(f"All regions' shares add up to {METHODS['share'].say(float(share.total))}{_total_interval(share)}.")
    return said


def _on_facex(subject: Subject, facex: xr.Dataset, share: xr.Dataset | None) -> list[str]:
    best = ranked(facex)
    if not best:
        return [f"FaceX has no score for {_decision(subject)}: no image has a region."]
    first = best[0]
    leader = ranked(share)[:1] if share is not None else []
    if not leader:
        return [
            f"The attribution map of {_decision(subject)} lies most on the {title_of(first.region)}: FaceX score "
            f"{first.sentence}. It says where the map is high, which need not be what moves the decision."
        ]
    if leader[0].region == first.region:
        return [f"FaceX agrees on the first place: the {title_of(first.region)} scores {first.sentence}."]
    beaten = read_regions(facex)[leader[0].region]
    return [
        f"The methods disagree: FaceX scores the {title_of(first.region)} highest ({first.text}; "
        f"{title_of(beaten.region)} {beaten.text}). Rely on the decision share, which changes what the model sees."
    ]


def contrast(a: Subject, b: Subject) -> str:
    """Return where two subjects differ most by decision share; nothing for two classes of a two-class model's one margin."""
    one, two = a.by("share"), b.by("share")
    if one is None or two is None:
        return ""
    first, second = read_regions(one), read_regions(two)
    gaps = {r: abs(first[r].value - second[r].value) for r in first}
    gaps = {r: gap for r, gap in gaps.items() if gap == gap}
    if not gaps or max(gaps.values()) < 0.01:
        return ""
    region = max(gaps, key=gaps.__getitem__)
    return (
        f"The largest difference is the {title_of(region)}: exchanging it moves {_decision(a)} {first[region].text} "
        f"of the way and {_decision(b)} {second[region].text}."
    )


def _decision(subject: Subject) -> str:
    return f"“{subject.class_name}” of {subject.model}"


def _behind(reading: Reading) -> str:
    return reading.sentence.removeprefix(reading.text)


def _largest(best: list[Reading]) -> str:
    return f": the largest share is {best[0].sentence} for the {title_of(best[0].region)}" if best else ""


def _total_interval(share: xr.Dataset) -> str:
    low, high = (float(share[k]) if k in share else float("nan") for k in ("total_low", "total_high"))
    interval = METHODS["share"].interval(low, high)
    return f" (95 % interval {interval}); they would make 100 % but for interactions" if interval else ""
