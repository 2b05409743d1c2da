"""Tests that `make test` leaves out: they take long, and each has a sibling that runs, of another case.

`make test-all` runs them too. They are listed by file, without test_, as pytest names them.
"""

KILLED = "test_killed_and_started_again_it_ends_as_if_it_was_not"
LONG = {
    "any_hop": ["test_from_recordings_to_speech[275-22050-frames]"],
    "corpus_recipes": [f"test_data[{name}]" for name in ("vctk", "libritts", "jsut", "csmsc")],
    "denoise": [
        "test_silence_is_silent_and_edges_do_not_click[lj-mini]",
        "test_odd_couplings_leave_nothing_to_remove[lj-mini]",
    ],
    "formats": [f"test_training_can_be_continued[workdir_{name}]" for name in ("checksums", "guard")],
    "gradients": ["test_all_gradients_are_one[hop 6, by frames, masked, float64]"],
    "kills": [f"{KILLED}[{name}]" for name in ("training", "sampling", "evaluation", "export", "export over a voice")],
    "learning": ["test_likelihood_rises_and_is_that_of_this_mel[squeezed]"],
    "mel_conventions": [f"test_a_preset_can_be_trained_on[{name}]" for name in ("bigvgan_44k_128", "espnet_24k_300")],
    "parallel": [
        "test_a_run_of_two_processes_returns_as_one_does",
        "test_two_processes_equal_one[zero]",
        "test_two_processes_equal_one[pmap]",
        "test_a_run_of_zero_on_two_devices_continues_with_jit_on_four",
    ],
    "resume": ["test_killed_before_the_first_checkpoint_it_starts_over"],
    "speakers": [f"test_who_speaks_is_heard[flowavenet, {name}]" for name in ("frames, embedding", "squeezed, id")],
}
NAMES = {f"tests/test_{file}.py::{test}" for file, tests in LONG.items() for test in tests}
