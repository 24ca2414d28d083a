"""A paho client that tells what happens to its connection, a line each: connected RC, subscribed, message TOPIC PAYLOAD,
disconnected RC. It does not come back by itself.

usage: live.py VERSION HOST PORT CA CERT KEY CLIENTID FILTER [WILLTOPIC]
"""

import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

version, host, port, ca, cert, key, client_id, topic = sys.argv[1:9]
v5 = version == "5"


def tell(*words):
    print(*words, flush=True)


def disconnected(c, u, reason, properties=None):
    tell("disconnected", getattr(reason, "value", reason))
    sys.stdout.flush()


options = {} if v5 else {"clean_session": False}
c = mqtt.Client(client_id, protocol=mqtt.MQTTv5 if v5 else mqtt.MQTTv311, reconnect_on_failure=False, **options)
c.tls_set(ca, cert, key)
if len(sys.argv) > 9:
    c.will_set(sys.argv[9], "will of " + client_id, 1)
c.on_subscribe = lambda c, u, mid, granted, properties=None: tell("subscribed")
c.on_message = lambda c, u, m: tell("message", m.topic, m.payload.decode())
c.on_disconnect = disconnected


def connected(c, u, flags, reason, properties=None):
    tell("connected", getattr(reason, "value", reason), "session", flags["session present"])
    c.subscribe(topic, 1)


c.on_connect = connected
if v5:
    p = Properties(PacketTypes.CONNECT)
    p.SessionExpiryInterval = 3600
    c.connect(host, int(port), clean_start=False, properties=p)
else:
    c.connect(host, int(port))
c.loop_forever()
