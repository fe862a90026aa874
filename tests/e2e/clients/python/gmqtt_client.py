"""gmqtt, on an event loop of its own thread."""

import asyncio
import logging
import ssl
import threading

import gmqtt
from gmqtt.mqtt.constants import MQTTv311, MQTTv50
from gmqtt.mqtt.handler import MQTTConnectError
from gmqtt.storage import HeapPersistentStorage

from refusal import PATIENCE, Refused

logging.getLogger("gmqtt").setLevel(logging.CRITICAL)  # it warns of every end
LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()


def on_loop(step):
    """The step as a blocking call, with a deadline."""

    def call(self, *arguments, **named):
        within = asyncio.wait_for(step(self, *arguments, **named), PATIENCE + 5)
        return asyncio.run_coroutine_threadsafe(within, LOOP).result()

    return call


class Mqtt(gmqtt.Client):
    """Tells of PUBCOMP, which gmqtt drops."""

    def _handle_pubcomp_packet(self, cmd, packet):
        self.completed.set()


class GmqttClient:
    def __init__(self, options):
        self._options = options

    @on_loop
    async def open(self):
        options = self._options
        self._messages, self._acks, self._ended = asyncio.Queue(), asyncio.Queue(), asyncio.Event()
        self._storage = HeapPersistentStorage()
        will = options["will"]
        self._mqtt = client = Mqtt(
            options["id"],
            clean_session=not options["kept"],
            will_message=will
            and gmqtt.Message(will["topic"], will["payload"], will["qos"], will["retain"]),
            session_expiry_interval=600 if options["kept"] else 0,
            persistent_storage=self._storage,
        )
        client.completed = asyncio.Event()
        client.set_config({"reconnect_retries": -2})  # 0 is still one
        if options["user"]:
            client.set_auth_credentials(options["user"], options["password"])
        present = []
        client.on_connect = lambda c, flags, code, p: present.append(bool(flags & 1))
        client.on_subscribe = lambda c, mid, granted, p: self._acks.put_nowait(granted)
        client.on_unsubscribe = lambda c, mid, granted: self._acks.put_nowait(granted)
        client.on_disconnect = lambda c, packet, error=None: self._ended.set()
        client.on_message = self._on_message
        tls = False
        if options["carrier"] == "tls":
            tls = ssl.create_default_context(cafile=options["ca"])
            tls.verify_flags |= ssl.VERIFY_X509_STRICT  # as newer Pythons do by themselves
        version = MQTTv50 if options["version"] == "5.0" else MQTTv311
        try:
            await client.connect(options["host"], options["port"], tls, 30, version)
        except MQTTConnectError as error:
            raise Refused(error._code) from error
        return present[0]

    async def _on_message(self, client, topic, payload, qos, properties):
        self._messages.put_nowait(
            {
                "topic": topic,
                "payload": bytes(payload),
                "qos": qos,
                "retain": bool(properties["retain"]),
                "dup": bool(properties["dup"]),
                "properties": properties.get("user_property", []),
            }
        )
        return 0

    @on_loop
    async def subscribe(self, filter, qos):
        self._mqtt.subscribe(filter, qos)
        [granted] = await self._acks.get()
        return granted

    @on_loop
    async def unsubscribe(self, filter):
        self._mqtt.unsubscribe(filter)
        await self._acks.get()

    @on_loop
    async def publish(self, topic, payload, qos, retain, properties):
        self._mqtt.completed.clear()
        more = {"user_property": properties} if properties else {}
        self._mqtt.publish(topic, payload, qos, retain, **more)
        await asyncio.sleep(0)  # the storage takes the message in a task of its own
        await self._storage.wait_empty()
        if qos == 2:
            await self._mqtt.completed.wait()

    @on_loop
    async def receive(self, within):
        try:
            return await asyncio.wait_for(self._messages.get(), within)
        except asyncio.TimeoutError:
            return None

    @on_loop
    async def disconnect(self):
        try:
            await self._mqtt.disconnect()
        except ssl.SSLError:
            pass  # it minds a PUBREL that was on its way as it closed

    @on_loop
    async def cut(self):
        self._mqtt._connection._transport.abort()
        await self._ended.wait()

    @on_loop
    async def await_end(self):
        await self._ended.wait()
