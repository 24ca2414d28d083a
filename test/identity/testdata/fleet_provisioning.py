"""Fleet provisioning by claim on one connection, as AWS's embedded library does it with MQTT 3.1.1.

usage: fleet_provisioning.py HOST PORT CA CERT KEY SERIAL CSR OUT
"""

import json
import queue
import sys

import paho.mqtt.client as mqtt

host, port, ca, cert, key, serial, csr, out = sys.argv[1:]
arrived = queue.Queue()


def ask(topic, request):
    for answer in ("accepted", "rejected"):
        _, mid = client.subscribe(topic + "/" + answer, 1)
        while arrived.get(timeout=60) != ("subscribed", mid):
            pass
    client.publish(topic, json.dumps(request), 1)
    while True:
        kind, what = arrived.get(timeout=60)
        if kind == topic + "/accepted":
            return json.loads(what)
        if kind == topic + "/rejected":
            sys.exit(what)


client = mqtt.Client(serial, protocol=mqtt.MQTTv311)
client.tls_set(ca, cert, key)
client.on_subscribe = lambda c, u, mid, granted: arrived.put(("subscribed", mid))
client.on_message = lambda c, u, m: arrived.put((m.topic, m.payload.decode()))
client.connect(host, int(port))
client.loop_start()
with open(csr) as f:
    made = ask("$aws/certificates/create-from-csr/json", {"certificateSigningRequest": f.read()})
with open(out, "w") as f:
    f.write(made["certificatePem"])
thing = ask(
    "$aws/provisioning-templates/fleet/provision/json",
    {"certificateOwnershipToken": made["certificateOwnershipToken"], "parameters": {"SerialNumber": serial}},
)
print(json.dumps(thing))
client.disconnect()
client.loop_stop()
