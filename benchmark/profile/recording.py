"""The record of a profile."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmark.dataset_identity import data_of
from benchmark.environment import describe
from benchmark.profile.session import Course, Rounds
from benchmark.profile.subject import Subject
from benchmark.profile.summary import Context, results
from benchmark.record import Record, as_text
from preprocess.machine import usable_cpus


def record_of(
    subject: Subject,
    course: Course,
    rounds: Rounds,
    ranks: list[dict[str, Any]],
    identity: dict[str, Any],
    argv: Sequence[str],
) -> Record:
    """The record of what was measured so far."""
    config, world = subject.config, subject.world
    loader = config.loader
    patch = loader.input_shape
    voxels = patch[0] * patch[1] * patch[2]
    image_bytes = 4 if loader.image_dtype == "float32" else 2
    context = Context(
        description=rounds.description,
        loader=subject.loader_name,
        step=subject.step_name,
        emulated=_emulation(subject),
        batch_size=loader.batch_size,
        ga_steps=loader.ga_steps,
        world_size=world.size,
        images_per_step=subject.session.global_batch_size,
        patch=list(patch),
        patch_bytes=voxels * (image_bytes + 1),
        device=world.device.type,
        data_cache=loader.data_cache,
        workers=loader.num_workers,
        usable_cpus=usable_cpus(),
        queue_batches=course.queue,
        data_bytes=sum(path.stat().st_size for path in course.files) or None,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        rounds=course.rounds,
    )
    found = results(context, rounds.phases, ranks)
    found |= {name: value for name, value in identity.items() if name == "dataset"}
    found["pipeline"] = {"patches": rounds.patches, "seed": config.seed}
    found["gpu_states"] = rounds.gpu_states
    environment = describe() | {name: value for name, value in identity.items() if name == "storage"}
    # As it will be read: the page is drawn of the record at hand.
    plain_config = json.loads(json.dumps(asdict(config), default=as_text))
    plain_config |= {"world_size": world.size, "device": str(world.device)}
    plain_config["ops"] = asdict(subject.session.ops)
    plain_config["loader"]["loader"] = subject.loader_name
    return Record(
        suite="profile",
        command=["python", "-m", "benchmark", *argv],
        config=plain_config,
        environment=environment,
        results=found,
    )


def _emulation(subject: Subject) -> dict[str, Any] | None:
    """The consumers, for the record."""
    if (emulated := subject.emulated) is None:
        return None
    return {
        "name": emulated.name,
        "seconds_per_step": emulated.seconds_per_step,
        "accelerators": subject.world.size,
        "source": emulated.source,
        "date": emulated.date,
        "assumed": emulated.assumed,
    }


def identity_of(subject: Subject, course: Course) -> dict[str, Any]:
    """``dataset`` and ``storage`` of the files that are read, if that is known.

    Raises:
        DataError: the manifest of the data set is damaged, or the like.
    """
    config = subject.config.loader
    return data_of(config.data_dir, config.evaluation_cases) if course.files else {}
