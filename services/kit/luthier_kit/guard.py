"""The one interceptor: request id, admission, errors to statuses, metrics, one log line a call."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc

from luthier_kit import statuses, telemetry
from luthier_kit.admission import Admission
from luthier_kit.errors import LuthierError, Unavailable

log = logging.getLogger(__name__)
SLOTS_KEY = "luthier-slots"  # trailing metadata: what this server can take at once


class CallGuard(grpc.ServerInterceptor):
    """Guards the calls of one service; health and reflection pass by."""

    def __init__(self, name: str, domain: str, admission: Admission, light: set[str], watch: set[str]) -> None:
        self.name = name
        self.domain = domain
        self.admission = admission
        self.light = light
        self.watch = watch
        self.ready = False

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], call: grpc.HandlerCallDetails
    ) -> Any:
        handler = continuation(call)
        service, _, method = call.method.lstrip("/").partition("/")
        if handler is None or service != self.name:
            return handler
        identity = dict(call.invocation_metadata).get(telemetry.REQUEST_ID_KEY) or telemetry.new_request_id()
        if handler.response_streaming:

            def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
                with self._guarded(method, str(identity), context):
                    yield from handler.unary_stream(request, context)

            return grpc.unary_stream_rpc_method_handler(
                stream, handler.request_deserializer, handler.response_serializer
            )

        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            with self._guarded(method, str(identity), context):
                return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(unary, handler.request_deserializer, handler.response_serializer)

    def _door(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        if method in self.watch:
            return self.admission.watch()
        if method in self.light:
            return self.admission.light()
        return self.admission.work(context)

    @contextmanager
    def _guarded(self, method: str, identity: str, context: grpc.ServicerContext) -> Iterator[None]:
        telemetry.request_id.set(identity[:128])
        started, code = time.perf_counter(), "OK"
        context.set_trailing_metadata(((SLOTS_KEY, str(self.admission.slots)),))
        try:
            if not self.ready:
                raise Unavailable("the service is starting or stopping", reason="NOT_READY")
            with self._door(method, context):
                yield
        except GeneratorExit:
            code = grpc.StatusCode.CANCELLED.name
            raise
        except Exception as error:
            code = error.code.name if isinstance(error, LuthierError) else grpc.StatusCode.INTERNAL.name
            if not isinstance(error, LuthierError):
                log.exception("%s failed", method)
            status = statuses.to_grpc(error, self.domain)
            trailing = (*status.trailing_metadata, (SLOTS_KEY, str(self.admission.slots)))
            context.abort_with_status(status._replace(trailing_metadata=trailing))
        finally:
            self._account(method, code, time.perf_counter() - started)
            telemetry.request_id.set("")

    def _account(self, method: str, code: str, seconds: float) -> None:
        telemetry.CALL_SECONDS.labels(self.name, method, code).observe(seconds)
        fields = {"method": method, "code": code, "seconds": round(seconds, 3)}
        log.log(logging.DEBUG if method in self.light else logging.INFO, "call", extra={"fields": fields})
