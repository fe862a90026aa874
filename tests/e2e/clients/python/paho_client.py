"""Paho, whose callbacks fill queues."""

import os
import queue
import socket

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from refusal import PATIENCE, Refused

VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}


class PahoClient:
    def __init__(self, options):
        self._options = options
        self._is_v5 = options["version"] == "5.0"
        self._connects, self._acks = queue.Queue(), queue.Queue()
        self._messages, self._ends = queue.Queue(), queue.Queue()
        is_websocket = options["carrier"] in ("ws", "wss")
        arguments = {} if self._is_v5 else {"clean_session": not options["kept"]}
        self._mqtt = client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=options["id"],
            protocol=VERSIONS[options["version"]],
            transport="websockets" if is_websocket else "tcp",
            reconnect_on_failure=False,
            **arguments,
        )
        if is_websocket:
            client.ws_set_options(path="/mqtt")
        if options["carrier"] in ("tls", "wss"):
            client.tls_set(options["ca"])
        if options["user"]:
            client.username_pw_set(options["user"], options["password"])
        if will := options["will"]:
            client.will_set(will["topic"], will["payload"], will["qos"], will["retain"])
        client.on_connect = lambda c, u, flags, reason, p: self._connects.put((flags, reason))
        client.on_message = lambda c, u, message: self._messages.put(message)
        client.on_disconnect = lambda c, u, flags, reason, p: self._ends.put(reason)
        client.on_subscribe = lambda c, u, mid, reasons, p: self._acks.put(reasons)
        client.on_unsubscribe = lambda c, u, mid, reasons, p: self._acks.put(reasons)

    def open(self):
        arguments = {}
        if self._is_v5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 600 if self._options["kept"] else 0
            arguments = {"clean_start": not self._options["kept"], "properties": properties}
        self._mqtt.connect(self._options["host"], self._options["port"], 30, **arguments)
        self._mqtt.loop_start()
        flags, reason = self._connects.get(timeout=PATIENCE)
        if reason.is_failure:
            self._mqtt.loop_stop()
            raise Refused(reason.value)
        return flags.session_present

    def subscribe(self, filter, qos):
        if self._is_v5:
            self._mqtt.subscribe(filter, options=SubscribeOptions(qos=qos))
        else:
            self._mqtt.subscribe(filter, qos)
        [reason] = self._acks.get(timeout=PATIENCE)
        return reason.value

    def unsubscribe(self, filter):
        self._mqtt.unsubscribe(filter)
        self._acks.get(timeout=PATIENCE)

    def publish(self, topic, payload, qos, retain, properties):
        more = None
        if properties:
            more = Properties(PacketTypes.PUBLISH)
            more.UserProperty = properties
        info = self._mqtt.publish(topic, payload, qos, retain, more)
        info.wait_for_publish(PATIENCE)
        assert info.is_published(), "no acknowledgement"

    def receive(self, within):
        try:
            message = self._messages.get(timeout=within)
        except queue.Empty:
            return None
        properties = getattr(message.properties, "UserProperty", []) if self._is_v5 else []
        return {
            "topic": message.topic,
            "payload": message.payload,
            "qos": message.qos,
            "retain": message.retain,
            "dup": message.dup,
            "properties": properties,
        }

    def disconnect(self):
        self._mqtt.disconnect()
        self._mqtt.loop_stop()

    def cut(self):
        """Ends as a failing network would, below TLS and WebSocket."""
        with socket.socket(fileno=os.dup(self._mqtt.socket().fileno())) as below:
            below.shutdown(socket.SHUT_RDWR)
        self.await_end()

    def await_end(self):
        self._ends.get(timeout=PATIENCE)
        self._mqtt.loop_stop()
