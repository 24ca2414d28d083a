"""paho-mqtt, driven by JSON commands on standard input; see remote_test.go."""

import base64
import json
import os
import socket
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

output = threading.Lock()


def tell(call, event, **more):
    with output:
        sys.stdout.write(json.dumps({"Call": call, "Event": event, **more}) + "\n")
        sys.stdout.flush()


def properties_of(message, packet):
    p = Properties(packet)
    if message["ContentType"]:
        p.ContentType = message["ContentType"]
    if message["ResponseTopic"]:
        p.ResponseTopic = message["ResponseTopic"]
    if message["Correlation"] is not None:
        p.CorrelationData = base64.b64decode(message["Correlation"])
    if message["UTF8"]:
        p.PayloadFormatIndicator = 1
    if message["Expiry"]:
        p.MessageExpiryInterval = message["Expiry"]
    if message["User"]:
        p.UserProperty = [tuple(u.split(":", 1)) for u in message["User"]]
    return p


def payload_of(message):
    return base64.b64decode(message["Payload"] or "")


class Connection:
    def __init__(self, command):
        self.call = command["Call"]
        self.command = command
        session = command["Session"]
        self.v5 = session["Version"] == mqtt.MQTTv5
        options = {"reconnect_on_failure": False}
        if not self.v5:
            options["clean_session"] = not session["Persistent"]
        self.client = c = mqtt.Client(session["ID"], protocol=session["Version"], **options)
        if command["TLS"]:
            tls = command["TLS"]
            c.tls_set(tls["CA"], tls["Cert"] or None, tls["Key"] or None)
        if session["Will"]:
            will = session["Will"]
            props = properties_of(will, PacketTypes.WILLMESSAGE) if self.v5 else None
            c.will_set(will["Topic"], payload_of(will), will["QoS"], will["Retain"], props)
        c.on_connect = self.connected
        c.on_disconnect = self.disconnected
        c.on_message = self.received
        c.on_subscribe = self.subscribed

    def run(self):
        session = self.command["Session"]
        try:
            options = {}
            if self.v5:
                props = Properties(PacketTypes.CONNECT)
                if session["Persistent"]:
                    props.SessionExpiryInterval = self.command["Expiry"]
                options = {"clean_start": not session["Persistent"], "properties": props}
            self.client.connect(self.command["Host"], self.command["Port"], **options)
            self.client.loop_start()  # its thread alone may touch the TLS connection
        except Exception as e:  # whatever it is, the test shall see it
            tell(self.call, "error", Error=repr(e))
            tell(self.call, "closed")

    def disconnected(self, client, userdata, code, properties=None):
        tell(self.call, "error", Error="disconnected: %s" % code)
        tell(self.call, "closed")

    def connected(self, client, userdata, flags, code, properties=None):
        if code != 0:
            tell(self.call, "error", Error="CONNACK %s" % code)
        elif self.command["Op"] == "listen":
            client.subscribe([self.option(s) for s in self.command["Subscriptions"]])
        else:
            threading.Thread(target=self.publish, daemon=True).start()

    def option(self, subscription):
        if self.v5:
            return subscription["Filter"], mqtt.SubscribeOptions(qos=subscription["QoS"])
        return subscription["Filter"], subscription["QoS"]

    def subscribed(self, client, userdata, mid, codes, properties=None):
        failed = [c for c in codes if (c.value if self.v5 else c) >= 0x80]
        if failed:
            tell(self.call, "error", Error="SUBACK %s" % failed)
        else:
            tell(self.call, "ready")

    def publish(self):
        for m in self.command["Messages"]:
            props = properties_of(m, PacketTypes.PUBLISH) if self.v5 else None
            self.client.publish(m["Topic"], payload_of(m), m["QoS"], m["Retain"], props).wait_for_publish()
        tell(self.call, "ready")
        self.client.disconnect()

    def received(self, client, userdata, m):
        message = {
            "Topic": m.topic,
            "Payload": base64.b64encode(m.payload).decode(),
            "QoS": m.qos,
            "Retain": bool(m.retain),
        }
        if self.v5:
            p = m.properties
            message["ContentType"] = getattr(p, "ContentType", "")
            message["ResponseTopic"] = getattr(p, "ResponseTopic", "")
            if hasattr(p, "CorrelationData"):
                message["Correlation"] = base64.b64encode(p.CorrelationData).decode()
            message["UTF8"] = getattr(p, "PayloadFormatIndicator", 0) == 1
            message["Expiry"] = getattr(p, "MessageExpiryInterval", 0)
            if hasattr(p, "UserProperty"):
                message["User"] = ["%s:%s" % u for u in p.UserProperty]
        tell(self.call, "message", Message=message)

    def stop(self):
        self.client.disconnect()

    def kill(self):
        """Ends the connection below TLS and MQTT."""
        s = self.client.socket()
        if s is not None:
            socket.socket(fileno=os.dup(s.fileno())).shutdown(socket.SHUT_RDWR)


connections = {}


def thread_failed(failure):
    """paho's thread dies of a TLS alert without calling on_disconnect."""
    for c in list(connections.values()):
        if c.client._thread is failure.thread:
            tell(c.call, "error", Error=repr(failure.exc_value))
            tell(c.call, "closed")


threading.excepthook = thread_failed
for line in sys.stdin:
    command = json.loads(line)
    call = command["Call"]
    if command["Op"] == "stop":
        connections[call].stop()
    elif command["Op"] == "kill":
        connections[call].kill()
    else:
        connections[call] = Connection(command)
        threading.Thread(target=connections[call].run, daemon=True).start()
