"""nats-py with plain calls instead of coroutines: the independent client of these tests."""

import asyncio
import json
import threading

import nats
from nats.errors import NoRespondersError, TimeoutError
from nats.js.errors import APIError, NotFoundError


class NatsClient:
    """One connection. It runs in a thread of its own, so that it stays alive between the calls of a test."""

    def __init__(self, url, timeout_s=5):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._nc = self._call(nats.connect(url.split(","), max_reconnect_attempts=-1, reconnect_time_wait=0.1,
                                           error_cb=_ignore, allow_reconnect=True))
        self._js = self._nc.jetstream(timeout=timeout_s)

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    def run(self, coroutine, timeout=120):
        """A coroutine of the test's own on this connection."""
        return self.begin(coroutine).result(timeout=timeout)

    def begin(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def offer(self, subject, payload, message_id):
        """Publishes to a stream from a coroutine; whether the stream has acknowledged."""
        try:
            await self._js.publish(subject, payload, headers={"Nats-Msg-Id": message_id}, timeout=2)
            return True
        except Exception:  # away, or has no leader at the moment: the caller offers it again
            return False

    def close(self):
        self._call(self._nc.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def publish(self, subject, payload, message_id=None, headers=None):
        """Publishes to a stream and returns its acknowledgement. payload: bytes, text, or what becomes JSON."""
        if not isinstance(payload, (bytes, str)):
            payload = json.dumps(payload)
        if isinstance(payload, str):
            payload = payload.encode()
        headers = dict(headers or {})
        if message_id:
            headers["Nats-Msg-Id"] = message_id
        return self._call(self._js.publish(subject, payload, headers=headers or None))

    def ask(self, subject):
        """One request with a JSON answer; None when nobody answers."""
        try:
            return json.loads(self._call(self._nc.request(subject, b"", timeout=2)).data)
        except (NoRespondersError, TimeoutError):
            return None

    def ask_all(self, subjects):
        """Many requests at once; the JSON answers, None for who does not answer."""
        async def ask(subject):
            try:
                return json.loads((await self._nc.request(subject, b"", timeout=2)).data)
            except (NoRespondersError, TimeoutError):
                return None

        async def ask_each():
            return await asyncio.gather(*map(ask, subjects))

        return self._call(ask_each())

    def subscribe(self, subject, hear):
        """Calls `hear(data)` for each message, in this connection's thread."""
        async def on_message(message):
            hear(message.data)

        self._call(self._nc.subscribe(subject, cb=on_message))
        self._call(self._nc.flush())

    def tell_all(self, messages):
        """Publishes (subject, payload) on core NATS: whoever listens now hears it."""
        async def tell():
            for subject, payload in messages:
                await self._nc.publish(subject, payload)
            await self._nc.flush()

        self._call(tell())

    def publish_all(self, messages):
        """Publishes (subject, payload, message id) one after the other, without waiting for each."""
        async def publish():
            answers = [await self._js.publish_async(subject, payload, wait_stall=30, headers={"Nats-Msg-Id": message_id})
                       for subject, payload, message_id in messages]
            await asyncio.gather(*answers)

        self._call(publish())

    def stream(self, name):
        return self._call(self._js.stream_info(name))

    def make_stream(self, name, subject):
        self._call(self._js.add_stream(name=name, subjects=[subject]))

    def stream_exists(self, name):
        try:
            self.stream(name)
            return True
        except NotFoundError:
            return False

    def stream_leader(self, name):
        """The node that leads a replicated stream; None while there is none."""
        try:
            cluster = self.stream(name).cluster
            return cluster.leader if cluster else None
        except (APIError, TimeoutError, NoRespondersError):
            return None

    def jetstream_answers(self):
        try:
            self._call(self._js.account_info())
            return True
        except (APIError, TimeoutError, NoRespondersError):
            return False

    def consumer(self, stream, name):
        return self._call(self._js.consumer_info(stream, name))

    def consumers(self, stream):
        """Every consumer of a stream; none when it is not there."""
        try:
            found = self._call(self._js.consumers_info(stream))
        except NotFoundError:
            return []
        assert len(found) < 256, "more than one page of consumers"
        return found

    def consumer_exists(self, stream, name):
        try:
            self.consumer(stream, name)
            return True
        except NotFoundError:
            return False

    def delete_consumer(self, stream, name):
        self._call(self._js.delete_consumer(stream, name))

    def messages(self, stream):
        """Every message of the stream, in order, without taking any."""
        state = self.stream(stream).state
        found = []
        for sequence in range(state.first_seq, state.last_seq + 1):
            try:
                found.append(self._call(self._js.get_msg(stream, sequence)))
            except NotFoundError:
                pass
        return found

    def bucket(self, name):
        """What a key-value bucket holds: key -> the JSON of its newest value."""
        async def read():
            bucket = await self._js.key_value(name)
            return {key: json.loads((await bucket.get(key)).value) for key in await bucket.keys()}
        try:
            return self._call(read())
        except (NotFoundError, nats.js.errors.NoKeysError):
            return {}

    def purge(self, stream):
        self._call(self._js.purge_stream(stream))


async def _ignore(_):
    """A server that goes away is what some tests are about."""
