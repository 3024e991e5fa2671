"""The fault proxy for gRPC changes nothing but what its rules say."""

import queue
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from runners.stack.faults.grpc_proxy import Answer, Close, Delay, Fail, GrpcFaultProxy, LoseAnswer

pytestmark = pytest.mark.servers


class Echo(grpc.GenericRpcHandler):
    """Answers each message with itself; `heard` lists what it took."""

    def __init__(self):
        self.heard = []
        self.metadata = ()

    def service(self, call):
        self.metadata = call.invocation_metadata
        return grpc.stream_stream_rpc_method_handler(self.echo)

    def echo(self, messages, context):
        for message in messages:
            self.heard.append(message)
            if message == b"refuse":
                context.set_trailing_metadata((("grpc-status-details-bin", b"why"),))
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
            yield message


@pytest.fixture
def echo():
    handler = Echo()
    unbounded = [("grpc.max_receive_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(8), [handler], options=unbounded)
    handler.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler
    server.stop(None).wait()


@pytest.fixture
def proxy(echo):
    with GrpcFaultProxy(f"127.0.0.1:{echo.port}") as made:
        yield made


@pytest.fixture
def channel(proxy):
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(proxy.address, options=options) as made:
        yield made


def talk(channel, messages, method="/a.Service/Talk"):
    """Answers to these messages, and the code the call ended with."""
    call = channel.stream_stream(method)(iter(messages))
    answers = []
    try:
        for answer in call:
            answers.append(answer)
    except grpc.RpcError:
        pass
    return answers, call.code()


def test_messages_answers_and_metadata_pass_unchanged(echo, channel):
    large = bytes(5_000_000)
    call = channel.stream_stream("/a.Service/Talk")(
        iter([b"one", large]), metadata=[("x-routing", "there")]
    )
    answers = queue.Queue()
    for answer in call:
        answers.put(answer)
    assert [answers.get(), answers.get()] == [b"one", large]
    assert ("x-routing", "there") in list(echo.metadata)


def test_a_call_of_one_message_passes(channel):
    assert channel.unary_unary("/a.Service/Ask")(b"once") == b"once"


def test_a_refusal_of_the_server_passes_with_its_details(channel):
    call = channel.stream_stream("/a.Service/Talk")(iter([b"refuse"]))
    with pytest.raises(grpc.RpcError):
        list(call)
    assert (call.code(), call.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "no")
    assert ("grpc-status-details-bin", b"why") in list(call.trailing_metadata())


def test_a_failed_message_does_not_reach_the_server(echo, proxy, channel):
    rule = proxy.rule("Talk", Fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota"), first=2, times=1)
    assert talk(channel, [b"1", b"2", b"3"]) == ([b"1"], grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert (echo.heard, rule.struck) == ([b"1"], 1)
    assert talk(channel, [b"2"]) == ([b"2"], grpc.StatusCode.OK)


def test_a_lost_answer_is_of_work_that_was_done(echo, proxy, channel):
    proxy.rule("Talk", LoseAnswer(), times=1)
    assert talk(channel, [b"1"]) == ([], grpc.StatusCode.UNAVAILABLE)
    assert echo.heard == [b"1"]


def test_a_closed_stream_ends_in_order(echo, proxy, channel):
    proxy.rule("Talk", Close(), first=2)
    assert talk(channel, [b"1", b"2"]) == ([b"1"], grpc.StatusCode.OK)
    assert echo.heard == [b"1"]


def test_an_answer_made_here_comes_in_its_place(echo, proxy, channel):
    proxy.rule("Talk", Answer(lambda message: b"not " + message), first=2, times=1)
    assert talk(channel, [b"1", b"2", b"3"])[0] == [b"1", b"not 2", b"3"]
    assert echo.heard == [b"1", b"3"]


def test_who_answers_may_let_a_message_pass(echo, proxy, channel):
    proxy.rule("Talk", Answer(lambda message: None if message == b"2" else b"none"))
    assert talk(channel, [b"1", b"2"])[0] == [b"none", b"2"]
    assert echo.heard == [b"2"]


def test_a_delay_only_delays(proxy, channel):
    proxy.rule("Talk", Delay(0.3), times=1)
    began = time.monotonic()
    assert talk(channel, [b"1"])[0] == [b"1"]
    assert time.monotonic() - began >= 0.3


def test_rules_are_of_their_methods_alone(proxy, channel):
    rule = proxy.rule("Ask", Fail(grpc.StatusCode.INTERNAL))
    assert talk(channel, [b"1"])[0] == [b"1"]
    assert rule.seen == 0


def test_a_closed_proxy_is_a_server_that_is_away_and_comes_back_to_its_port(proxy, channel):
    assert talk(channel, [b"1"])[0] == [b"1"]
    proxy.close()
    assert talk(channel, [b"2"]) == ([], grpc.StatusCode.UNAVAILABLE)
    proxy.start()
    call = channel.stream_stream("/a.Service/Talk")(iter([b"3"]), wait_for_ready=True)
    assert list(call) == [b"3"]
