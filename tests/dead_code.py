"""What vulture cannot see is used: names that a framework, a template or the command's table of functions calls.

`make lint` runs vulture on all packages with this list. A name goes in here only with its caller.
"""

from typing import Any

_: Any = None

# grpc calls these of a channel, a servicer context and a reader of uploads
_.stream_unary, _.stream_stream, _.subscribe, _.unsubscribe
_.abort_with_status, _.send_initial_metadata, _.set_code, _.set_details
_.readable, _.readinto, _.writable, _.try_to_connect, _.initial_metadata
# gRPC methods and HTTP handlers are called by their names in the contract or the path
_.format_commands, _.do_GET, _.log_message, _.malformed, _.bug, _.download
_.go_on, _.unlock, _.scores_csv, _.me
_.lawpack, _.mcp  # commands, by their names in the table
_.peaks_json  # for other tools, as audiowaveform's JSON
_.RenderStem  # of people who look into one stem, not of the pipeline
# SQLAlchemy and Alembic
_.impl, _.cache_ok, _.process_bind_param, _.process_result_value, _.change_id, _.isolation_level
_.down_revision, _.downgrade
# pydantic
_.audio_key  # agents read it
_.model_config, _._empty_is_absent, _._is_unicode, _._one_of_two, _._is_reason
_.is_narrow  # a template calls it
# settings of libraries that are assigned and never read by us
_.infoActive, _.warningActive, _.file_size, _.external_attr, _.should_exit, _.ws_server, _.OAUTH_TOKEN_URL
_.avoid_device_init  # torch reads it of its tensors without data
_.allow_tf32, _.pre_tokenizer, _.post_processor, _.grad, _.intra_op_num_threads, _.inter_op_num_threads, _.thread_count
# stable-audio-tools, of `dac.model.dac`
_.Encoder, _.Decoder
# hatchling, when a wheel is built
_.NativeHook, _.StubHook, _.dependencies, _.initialize
# Python's own
_.exc_text  # of a record of logging
_.__traceback__
# Python asks a module for names that it does not have
_.__getattr__
# fields of messages
_.requested_by, _.mix_loudness_target_lufs, _.checkpoint_step
# templates of the evaluation report, of a clip's card and of a corpus report, and its JSON
_.beats_json, _.tempo_differs, _.key_differs, _.tags_json, _.skipped_by, _.to_embed
(
    _.relations,
    _.confusions,
    _.run_on,
    _.measured_tempo,
    _.measured_key,
    _.audio_tag,
    _.tempo_source,
    _.key_source,
    _.voice_stated,
)
_.time_share, _.files_duration_s, _.median_s, _.lengths, _.tempo_unknown, _.key_unknown
# commands of `luthier`, named in cli.SECTIONS
_.list_tests, _.compare, _.prove_store
(
    _.luthier,
    _.demo,
    _.inspect,
    _.add_audio,
    _.gc,
    _.takedown,
    _.experiment,
    _.demo_page,
    _.convert_checkpoint,
    _.train_autoencoder,
)
_.words_computed  # tests of which words the taggers can tell
# figures of the accuracy file that ships, which people read; the report's template reads the last
_.area, _.measured_on, _.heard_elsewhere
_.recompile_limit, _.accumulated_recompile_limit  # torch reads them
_.retrieve  # minio's client, for keys of an identity
