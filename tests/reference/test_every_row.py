"""Which test says what each row of the reference numbers says.

Most rows have a test of their own beside this file, at the shapes of the published model. Behaviours that every size has are
tested where the code is; here stands where. A test that is renamed or removed breaks this index.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REFERENCE, INFERENCE, CALLBACKS = "reference", "unit/inference", "unit/callbacks"

#: Section -> row -> "folder/test_file.py::test, test ..." below tests/.
ROWS: dict[str, dict[str, list[str]]] = {
    "Thinker (text)": {
        "width, layers, heads, context": [f"{REFERENCE}/test_thinker.py::test_width_layers_heads_context"],
        "vocabulary": [f"{REFERENCE}/test_thinker.py::test_vocabulary"],
        "block": [f"{REFERENCE}/test_thinker.py::test_block, test_rope_is_computed_in_fp32"],
        "head": [f"{REFERENCE}/test_thinker.py::test_head"],
        "parameters": [f"{REFERENCE}/test_thinker.py::test_parameters"],
        '"Hello, how are you?" as BOS + 5 pieces': [f"{REFERENCE}/test_thinker.py::test_a_greeting"],
        "forward": [f"{REFERENCE}/test_thinker.py::test_forward_takes_ids_or_embeddings"],
        "options (off in the reference)": [
            f"{REFERENCE}/test_thinker.py::test_options_are_off_in_the_reference, test_and_each_can_be_switched_on"
        ],
    },
    "Image": {
        "patches, CLS, positions": [f"{REFERENCE}/test_image.py::test_patches, test_cls_and_learned_positions"],
        "4 pre-norm layers": [f"{REFERENCE}/test_image.py::test_blocks"],
        "1 token, 916,992 parameters": [f"{REFERENCE}/test_image.py::test_one_token, test_parameters"],
        "CLS and grid, cls | grid": [
            f"{REFERENCE}/test_image.py::test_the_encoder_returns_both_cls_and_patch_grid, "
            "test_image_tokens_is_a_choice_of_the_projector, test_every_size_defaults_to_a_grid"
        ],
        "symmetric InfoNCE": [f"{REFERENCE}/test_image.py::test_trained_with_symmetric_info_nce"],
    },
    "Audio in": {
        "mel": [f"{REFERENCE}/test_audio_in.py::test_mel", "unit/frontends/test_mel.py::test_no_filter_is_empty"],
        "stem, blocks, 25 tokens a second": [f"{REFERENCE}/test_audio_in.py::test_stem, test_blocks_and_tokens"],
        "2,209,088 parameters": [f"{REFERENCE}/test_audio_in.py::test_parameters"],
        "downsample": [f"{REFERENCE}/test_audio_in.py::test_downsample"],
        "padding": [f"{REFERENCE}/test_audio_in.py::test_padding_never_changes_a_valid_frames_output"],
        "ctx_len // 4 audio tokens": [f"{REFERENCE}/test_audio_in.py::test_at_most_a_quarter_of_the_context_is_audio"],
        "CTC characters": [f"{REFERENCE}/test_audio_in.py::test_ctc_characters"],
        "a clip too short": [
            f"{REFERENCE}/test_audio_in.py::test_a_clip_too_short_is_counted",
            "unit/stages/test_speech_stages.py::test_audio_counts_clips_that_are_too_short",
        ],
    },
    "Fusion": {
        "9, 30, 35 tokens; order; causal": [f"{REFERENCE}/test_fusion.py::test_lengths, test_order, test_causal"],
        "prompt budget": [f"{REFERENCE}/test_fusion.py::test_prompt_budget, test_truncation_is_explicit"],
    },
    "Speech out": {
        "codec": [f"{REFERENCE}/test_speech_out.py::test_codec, test_frame_by_frame_at_12_5_hz, test_other_sizes"],
        "talker": [f"{REFERENCE}/test_speech_out.py::test_talker, test_kv_cached"],
        "teacher forcing": [
            f"{REFERENCE}/test_speech_out.py::test_teacher_forcing, test_loss_is_the_sum_of_cross_entropies_over_all_frames, "
            "test_from_mel_to_logits"
        ],
        "length and stop": [f"{REFERENCE}/test_speech_out.py::test_length_bound, test_a_learned_stop"],
        "385,280 samples": [f"{REFERENCE}/test_speech_out.py::test_samples_of_301_frames"],
        "one batched call": [f"{REFERENCE}/test_speech_out.py::test_codes_decode_in_one_batched_call"],
        "vocoder": [f"{REFERENCE}/test_speech_out.py::test_vocoder, test_a_failure_is_an_error_never_a_tone"],
        "the neural vocoder (optional)": [
            "unit/stages/test_vocoder_stage.py::test_what_is_measured_and_shown",
            f"{INFERENCE}/tts/test_vocoder.py::test_without_a_trained_one_griffin_lim_speaks_and_it_is_said",
        ],
        "the Talker speaks the text": [
            f"{REFERENCE}/test_speech_out.py::test_the_talker_speaks_the_text",
            f"{INFERENCE}/test_engine.py::test_the_talker_speaks_the_text",
        ],
    },
    "Generation": {
        "presets": [f"{INFERENCE}/decoding/test_sampling.py::test_presets_are_the_published_ones"],
        "temperature": [
            f"{INFERENCE}/decoding/test_sampling.py::test_temperature_divides_the_logits",
            f"{REFERENCE}/test_generation.py::test_temperature_is_at_least_1e_5",
        ],
        "top-p": [
            f"{INFERENCE}/decoding/test_sampling.py::test_the_token_that_crosses_p_stays, "
            "test_top_k_and_min_p_keep_the_best"
        ],
        "others": [
            f"{INFERENCE}/decoding/test_sampling.py::test_the_repetition_penalty_moves_on_and_spares_the_end, "
            "test_a_seed_repeats_and_another_differs",
            f"{INFERENCE}/decoding/test_detokenizer.py::test_a_stop_string_ends_the_text_and_is_never_shown",
            f"{INFERENCE}/decoding/test_beam_search.py::test_one_beam_is_greedy_decoding, "
            "test_an_engine_answers_by_beams_alone_in_batches_and_in_turns",
        ],
        "KV cache": [
            "unit/nn/test_cache.py::test_bytes_are_the_reference_formula",
            f"{REFERENCE}/test_generation.py::test_kv_cache_bytes, test_chunked_prefill",
            f"{INFERENCE}/decoding/test_generate.py::test_cached_equals_uncached_in_any_chunks",
        ],
        "batch": [f"{INFERENCE}/decoding/test_generate.py::test_ragged_rows_equal_their_single_runs"],
        "stream": [
            f"{INFERENCE}/test_engine.py::test_the_stream_equals_the_answer_and_the_echo_leads_it",
            f"{INFERENCE}/decoding/test_detokenizer.py::test_the_pieces_join_to_the_text",
        ],
        "stop": [f"{INFERENCE}/decoding/test_generate.py::test_an_answer_ends_at_eos"],
        "returns": [f"{INFERENCE}/test_engine.py::test_the_stream_equals_the_answer_and_the_echo_leads_it"],
    },
    "Chat": {
        "it leaves, resets, attaches": [
            f"{INFERENCE}/cli/test_chat.py::test_it_leaves, test_reset_forgets, test_pictures_and_sounds_are_attached, "
            "test_answers_and_notices_are_apart"
        ],
        "the cache persists": [
            f"{INFERENCE}/test_engine.py::test_the_cache_of_a_conversation_equals_reading_it_all, "
            "test_without_history_every_turn_is_the_first, test_a_full_conversation_starts_anew_with_a_notice"
        ],
        "usage and statistics": [
            f"{REFERENCE}/test_chat.py::test_cache_usage, test_timing_statistics",
            f"{INFERENCE}/cli/test_chat.py::test_the_cache_is_reported",
        ],
    },
    "Python": {
        "load_model and its methods": [
            f"{INFERENCE}/test_engine.py::test_load_model_is_the_front_door, test_media_change_the_answer, "
            "test_a_batch_with_media_equals_single_runs, test_transcription_reads_files_and_waveforms"
        ],
        "export dir, .ckpt or single .safetensors": [
            "unit/checkpoints/test_single_file.py::test_a_checkpoint_gives_all_parts_facts_and_tokenizer, "
            "test_one_file_gives_back_what_a_folder_held"
        ],
    },
    "Command line": {
        "default questions": [f"{INFERENCE}/test_infer.py::test_media_bring_their_default_question"],
        "video": ["unit/frontends/test_video.py::test_frames_are_evenly_spread"],
        "strings as the shell passes them": [f"{INFERENCE}/test_infer.py::test_strings_come_as_the_shell_passed_them"],
        "a wrong ckpt": [f"{INFERENCE}/test_infer.py::test_a_missing_export_lists_those_at_hand"],
        "standard output": [f"{INFERENCE}/test_infer.py::test_the_answer_alone_is_on_standard_output"],
    },
    "Safety of training": {
        "forward check": [
            f"{CALLBACKS}/test_finite_guard.py::test_the_thinkers_logits, test_the_talkers_codebooks_apart, "
            "test_the_audio_encoder, test_cls_and_grid_apart",
            f"{CALLBACKS}/test_step_guard.py::test_a_step_reads_the_device_once",
        ],
        "loss check": [f"{CALLBACKS}/test_finite_guard.py::test_the_loss"],
        "gradient check": [
            f"{CALLBACKS}/test_step_guard.py::test_a_refused_step_leaves_everything_consistent, test_two_ranks_refuse_together"
        ],
        "AMP": ["unit/optim/test_optimizers.py::test_gradients_are_clipped_under_every_precision"],
        "accumulation": [f"{REFERENCE}/test_safety.py::test_accumulation"],
        "checkpoints": [
            f"{REFERENCE}/test_safety.py::test_checkpoints",
            f"{CALLBACKS}/test_writers.py::test_a_full_disk_is_one_clear_error",
            f"{CALLBACKS}/test_resume_checkpoint.py::test_taken_up_after_every_step",
            "integration/test_resume.py::test_killed_and_started_again",
        ],
    },
    "Files of the predecessor that we read": {
        "text, images, ASR, TTS, OCR": [
            "unit/datamodules/test_predecessor_files.py::test_a_stage_draws_the_same_from_micro_omnis_file_and_from_jsonl"
        ],
        "paths and misses": [
            "unit/datamodules/test_manifests.py::test_media_are_looked_up_in_four_places_in_order, "
            "test_up_to_one_percent_is_skipped_and_reported, test_a_bad_row_is_an_error_by_file_and_line"
        ],
        "checkpoints": [
            "unit/interop/micro_omni/test_importing.py::test_thinker, test_audio, test_vision, test_codec, "
            "test_talker_without_its_text, "
            "test_omni_reads_image_audio_and_text, test_keys_and_shapes_are_strict",
            "unit/interop/micro_omni/test_files.py::test_a_flat_safetensors_is_a_thinkers, "
            "test_a_pickle_that_wants_code_is_not_run",
        ],
    },
}  # fmt: skip


@cache
def defined(path: Path) -> set[str]:
    """Names of a file's tests."""
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("section", "row"), [(section, row) for section, rows in ROWS.items() for row in rows])
def test_a_row_has_its_tests(section, row):
    for entry in ROWS[section][row]:
        name, _, tests = entry.partition("::")
        path = ROOT / "tests" / name
        assert path.is_file(), name
        missing = [test for test in tests.split(", ") if test not in defined(path)]
        assert not missing, f"{name} has no {missing}"
