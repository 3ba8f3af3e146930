"""Who hears what when: every order is a permutation, another one for each listener, and the same when resumed."""

import hashlib
from collections import Counter

import pytest

from luthier.curation.v1 import listening_pb2 as pb
from luthier_curation.listening.orders import Step, audio_token, shuffled, steps_of

from .listening_builders import MOS, MUSHRA, MUSICALITY, QUALITY, STEREO


def plan_of(
    kind: pb.ListeningKind, trials: int = 6, conditions: int = 4, training: int = 1, mono: tuple[int, ...] = ()
) -> pb.ListeningPlan:
    """A plan; the conditions of `mono` have one channel."""
    stimuli = [
        pb.KeptStimulus(condition=f"s{index}", channels=1 if index in mono else 2) for index in range(conditions)
    ]
    kept = [pb.KeptTrial(stimuli=stimuli, training=trial < training) for trial in range(trials)]
    request = pb.CreateListeningTestRequest(kind=kind, questions=[QUALITY, MUSICALITY, STEREO])
    return pb.ListeningPlan(request=request, trials=kept)


def asked(steps: list[Step]) -> Counter[tuple[int, int, int]]:
    return Counter((step.trial, c, q) for step in steps for c in step.conditions for q in step.questions)


@pytest.mark.parametrize("kind", [MOS, MUSHRA])
def test_every_sound_is_asked_about_once_per_question(kind: pb.ListeningKind) -> None:
    everything = {(trial, c, q): 1 for trial in range(6) for c in range(4) for q in (QUALITY, MUSICALITY, STEREO)}
    assert asked(steps_of(plan_of(kind), "seed")) == everything


@pytest.mark.parametrize("kind", [MOS, MUSHRA])
def test_two_listeners_have_different_orders_and_one_has_the_same_again(kind: pb.ListeningKind) -> None:
    plan = plan_of(kind)
    assert steps_of(plan, "ada") == steps_of(plan, "ada")
    assert steps_of(plan, "ada") != steps_of(plan, "bob")


def test_orders_are_the_same_in_every_release() -> None:
    digests = {n: hashlib.sha256(b"seed\x00what\x00" + str(n).encode()).hexdigest() for n in range(5)}
    assert shuffled("seed", "what", 5) == sorted(digests, key=lambda n: digests[n])


def test_each_place_is_as_likely_as_any_other() -> None:
    places = Counter(shuffled(str(seed), "trials", 5)[0] for seed in range(5000))
    expected = 1000
    chi_square = sum((places[n] - expected) ** 2 / expected for n in range(5))
    assert chi_square < 18.5, "p = 0.001 with 4 degrees of freedom"


@pytest.mark.parametrize("kind", [MOS, MUSHRA])
def test_practice_comes_first(kind: pb.ListeningKind) -> None:
    flags = [step.training for step in steps_of(plan_of(kind, training=2), "seed")]
    assert flags == sorted(flags, reverse=True)
    assert sum(flags) > 0


def test_a_mushra_trial_keeps_its_labels_through_all_questions() -> None:
    steps = steps_of(plan_of(MUSHRA), "seed")
    for trial in range(6):
        of_trial = [step for step in steps if step.trial == trial]
        assert len({(step.conditions, step.labels) for step in of_trial}) == 1
        assert of_trial[0].labels == ("A", "B", "C", "D")
        assert [step.questions for step in of_trial] == [(QUALITY,), (MUSICALITY,), (STEREO,)]


def test_orders_of_conditions_differ_between_trials() -> None:
    orders = {step.conditions for step in steps_of(plan_of(MUSHRA, trials=12), "seed")}
    assert len(orders) > 1


@pytest.mark.parametrize("kind", [MOS, MUSHRA])
def test_stereo_is_asked_about_sounds_of_two_channels_only(kind: pb.ListeningKind) -> None:
    counted = asked(steps_of(plan_of(kind, mono=(1, 2)), "seed"))
    assert {c for _, c, q in counted if q == STEREO} == {0, 3}
    assert {c for _, c, q in counted if q == QUALITY} == {0, 1, 2, 3}


def test_addresses_differ_between_sessions_and_between_hidden_and_open_reference() -> None:
    addresses = {audio_token(seed, 0, c) for seed in ("ada", "bob") for c in (0, 1, None)}
    assert len(addresses) == 6
    assert all(len(address) == 32 for address in addresses)
