"""The command line: the seed document's flags, defaults and commands, and one sentence for a wrong flag."""

import dataclasses
import re
import shlex

import pytest

from runtime.arguments import build_parser, parse_arguments
from runtime.schedule import EvaluationSchedule

# Flag and default as the seed document's tables give them.
SEED_FLAGS = {
    "Input/Output parameters": {
        "data_dir": None, "log_dir": "/tmp", "save_ckpt_path": None, "load_ckpt_path": None,
        "loader": "pytorch", "local_rank": 0,
    },
    "Runtime parameters": {
        "exec_mode": "train", "batch_size": 2, "ga_steps": 1, "epochs": 1, "evaluate_every": 20,
        "start_eval_at": 1000, "layout": "NCDHW", "input_shape": [128, 128, 128],
        "val_input_shape": [128, 128, 128], "seed": -1, "num_workers": 8, "benchmark": False,
        "warmup_steps": 200, "amp": False,
    },
    "Optimizer parameters": {
        "optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.9, "init_learning_rate": 1e-4,
        "lr_warmup_epochs": 0, "lr_decay_epochs": [], "lr_decay_factor": 1.0, "lamb_betas": [0.9, 0.999],
        "weight_decay": 0.0,
    },
    "Other parameters": {
        "verbose": False, "oversampling": 0.4, "overlap": 0.5, "cudnn_benchmark": False,
        "cudnn_deterministic": False,
    },
}  # fmt: skip


def test_every_flag_of_the_seed_has_its_default_and_its_group() -> None:
    parser = build_parser()
    groups = {
        group.title: {action.dest: action.default for action in group._group_actions}
        for group in parser._action_groups
    }
    for title, flags in SEED_FLAGS.items():
        for flag, default in flags.items():
            found = groups[title][flag]
            assert (str(found) if flag == "log_dir" else found) == default, flag


def test_help_is_grouped_and_every_flag_is_explained() -> None:
    parser = build_parser()
    text = parser.format_help()
    for title in SEED_FLAGS:
        assert f"{title}:" in text
    unexplained = [a.dest for a in parser._actions if not a.help and not a.choices]
    assert unexplained == []


@pytest.mark.parametrize(
    "command",
    [
        "--data_dir /data/ --loader pytorch --log_dir /results/ --epochs 4000 --seed 0 --batch_size 2 "
        "--learning_rate 1.0 --eval_every 20",
        "--data_dir /data --learning_rate 1.0 --lr_decay_epochs 1000 2000 --lr_decay_factor 0.1",
        "--data_dir /data --init_learning_rate 1e-4 --learning_rate 1.0 --lr_warmup_epochs 200",
        "--data_dir /data --save_ckpt_path /results/checkpoint.pth",
        "--data_dir /data --exec_mode evaluate --load_ckpt_path /results/checkpoint.pth",
        "--data_dir /data --benchmark --warmup_steps 200",
    ],
)
def test_the_seeds_own_commands_parse(command: str) -> None:
    config = parse_arguments(shlex.split(command))
    assert str(config.loader.data_dir) == "/data"
    if "lr_decay_epochs" in command:
        assert config.learning_rate.decay_epochs == (1000, 2000)
    if "eval_every" in command:
        assert config.evaluation == EvaluationSchedule(start=1000, every=20)


def test_configs_are_frozen_all_the_way_down() -> None:
    config = parse_arguments(["--data_dir", "d"])
    for part in (config, config.loader, config.speed, config.optimizer, config.learning_rate):
        field = dataclasses.fields(part)[0].name  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, field, None)
    hash(config)


def test_auto_evaluation_is_left_to_the_samples_per_epoch() -> None:
    both = ["--start_eval_at", "auto", "--evaluate_every", "auto"]
    assert parse_arguments(["--data_dir", "d", *both]).evaluation is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", r"--data_dir"),
        ("--data_dir d --batch_size 0", r"--batch_size: expected a whole number of at least 1, found '0'"),
        ("--data_dir d --batch_size two", r"--batch_size.*found 'two'"),
        ("--data_dir d --learning_rate -1", r"--learning_rate"),
        ("--data_dir d --learning_rate nan", r"--learning_rate.*found 'nan'"),
        ("--data_dir d --oversampling 1.5", r"--oversampling.*at most 1"),
        ("--data_dir d --overlap 1.0", r"--overlap"),
        ("--data_dir d --seed -2", r"--seed"),
        ("--data_dir d --loader dalli", r"--loader: invalid choice"),
        ("--data_dir d --bench", r"unrecognized arguments: --bench"),
        ("--data_dir d --input_shape 128 128", r"--input_shape: expected three sizes"),
        ("--data_dir d --val_input_shape 100 128 128", r"--val_input_shape.*multiples of 32"),
        ("--data_dir d --input_shape 32 32 32", r"--input_shape.*single voxel"),
        ("--data_dir d --start_eval_at auto", r"both or neither"),
        ("--data_dir d --evaluate_every 0", r"--evaluate_every"),
        ("--data_dir d --lamb_betas 0.9", r"--lamb_betas"),
        ("--data_dir d --fused fast", r"--fused: invalid choice"),
        ("--data_dir d --fused_ops norm conv", r"--fused_ops: invalid choice: 'conv'"),
        ("--data_dir d --fused off --fused_ops join", r"--fused_ops join needs norm"),
        ("--data_dir d --layout NDHWC --fused_ops join", r"--fused_ops join needs norm"),
        ("--data_dir d --exec_mode evaluate --cuda_graph", r"--cuda_graph is of training steps: drop it"),
        ("--data_dir d --exec_mode evaluate --compile", r"--compile is of training steps: drop it"),
        ("--data_dir d --amp --compile --shadow_weights", r"--compile fuses autocast's casts itself"),
        ("--data_dir d --cudnn_benchmark_limit 5", r"--cudnn_benchmark_limit needs --cudnn_benchmark"),
        ("--data_dir d --fused triton", r"--fused triton needs --layout NDHWC"),
        ("--data_dir d --fused triton --layout NDHWC --normalization batchnorm", r"no kernel for.*batchnorm"),
        ("--data_dir d --fused native --recompute_norm", r"--recompute_norm.*give --fused"),
        ("--data_dir d --fused off --fused_ops loss --recompute_norm", r"--recompute_norm needs norm"),
        ("--data_dir d --shadow_weights", r"--shadow_weights needs --amp"),
        ("--data_dir d --static_loss_scale 1024", r"--static_loss_scale needs --amp"),
        (
            "--data_dir d --amp --amp_dtype bfloat16 --static_loss_scale 1024",
            r"--static_loss_scale needs --amp",
        ),
        ("--data_dir d --amp --static_loss_scale 0", r"--static_loss_scale: expected a number above 0"),
        ("--data_dir d --overlap 0.98 --val_input_shape 32 32 32 --filters 4 8", r"--overlap: 0.98.*stride"),
        ("--data_dir d --input_shape 32 32 32 --normalization batchnorm --batch_size 1", r"single voxel"),
        ("--data_dir d --benchmark --save_ckpt_path c", r"--save_ckpt_path"),
        ("--data_dir d --save_every_steps 5", r"--save_every_steps needs --save_ckpt_path"),
        ("--data_dir d --image_dtype float16", r"--image_dtype float16 needs --amp"),
        ("--data_dir d --loader_timeout nan", r"--loader_timeout.*found 'nan'"),
        ("--data_dir d --data_cache device", r"--data_cache device is one of --loader dali's"),
        ("--data_dir d --loader dali --data_cache host --reader file", r"--reader file reads files again"),
        ("--data_dir d --loader dali --cache_dtype float16", r"--cache_dtype goes with --data_cache"),
    ],
)
def test_a_wrong_flag_gets_one_sentence(flags: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(shlex.split(flags))
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert len(error.strip().splitlines()) == 1
