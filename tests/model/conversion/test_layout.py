"""Which tensors of a file make the model, by their names alone."""

import pytest

from luthier_model.conversion.layout import layout_of

WANTED = ["model.model.a", "model.model.b", "conditioner.c", "pretransform.model.encoder.d"]


def test_an_unwrapped_model_keeps_its_names() -> None:
    layout = layout_of(WANTED, WANTED)
    assert (layout.wrapper, layout.added, layout.rest) == ("", "", ())
    assert layout.online == {name: name for name in WANTED}


def test_a_training_wrapper_gives_both_sets_of_weights_and_what_is_neither() -> None:
    names = [f"diffusion.{name}" for name in WANTED]
    names += ["diffusion_ema.ema_model.model.a", "diffusion_ema.ema_model.model.b", "diffusion_ema.step", "losses.x"]
    layout = layout_of(names, WANTED)
    assert layout.chosen("online") == {name: f"diffusion.{name}" for name in WANTED}
    assert layout.chosen("ema")["model.model.a"] == "diffusion_ema.ema_model.model.a"
    assert layout.chosen("ema")["conditioner.c"] == "diffusion.conditioner.c"
    assert layout.rest == ("diffusion_ema.step", "losses.x")


def test_an_older_average_that_kept_a_second_copy_of_what_was_trained_is_read() -> None:
    names = [f"diffusion.{name}" for name in WANTED] + [
        f"diffusion_ema.online_model.{n}" for n in ("model.a", "model.b")
    ]
    assert layout_of(names, WANTED).rest == ("diffusion_ema.online_model.model.a", "diffusion_ema.online_model.model.b")


@pytest.mark.parametrize(
    ("names", "added"),
    [
        (["encoder.d"], "pretransform.model."),
        (["model.encoder.d"], "pretransform."),
        (["a", "b"], "model.model."),
        (["model.a", "model.b"], "model."),
    ],
)
def test_a_part_of_the_model_is_known_by_what_it_holds(names: list[str], added: str) -> None:
    assert layout_of(names, WANTED).added == added


def test_the_wrapper_of_an_autoencoder_is_known() -> None:
    names = ["autoencoder.encoder.d", "autoencoder_ema.ema_model.encoder.d", "discriminator.x"]
    layout = layout_of(names, WANTED)
    assert layout.online == {"pretransform.model.encoder.d": "autoencoder.encoder.d"}
    assert layout.averaged == {"pretransform.model.encoder.d": "autoencoder_ema.ema_model.encoder.d"}
    assert layout.rest == ("discriminator.x",)


@pytest.mark.parametrize(
    ("prefix", "inside", "inserted"),
    [
        ("", "_orig_mod.", ("_orig_mod",)),
        ("module.", "", ("module",)),
        ("module.", "_orig_mod.", ("_orig_mod", "module")),
        ("_forward_module.", "", ("_forward_module",)),
    ],
)
def test_what_compiling_and_several_gpus_put_into_names_is_taken_out(
    prefix: str, inside: str, inserted: tuple[str, ...]
) -> None:
    """As torch names a module that was compiled in a model, and a model that is trained in parallel."""
    names = [prefix + f"diffusion.{name}".replace("model.model.", f"model.{inside}model.") for name in WANTED]
    names += [f"{prefix}diffusion_ema.ema_model.{inside}model.{name}" for name in "ab"]

    layout = layout_of(names, WANTED)

    assert layout.online == dict(zip(WANTED, names[:4], strict=True))
    assert layout.chosen("ema")["model.model.a"] == names[4]
    assert (layout.rest, layout.inserted) == ((), inserted)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_a_model_that_was_saved_compiled_or_in_parallel_is_known(prefix: str) -> None:
    assert layout_of([prefix + name for name in WANTED], WANTED).online == {name: prefix + name for name in WANTED}
    assert layout_of([prefix + "encoder.d"], WANTED).added == "pretransform.model."


def test_names_that_would_become_one_stay_as_they_are() -> None:
    names = [*WANTED, "module.conditioner.c"]
    layout = layout_of(names, WANTED)
    assert layout.online == {name: name for name in names}
    assert layout.inserted == ()
