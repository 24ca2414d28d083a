# {{.ID}} speaks to {{.URL}}. The three .pem files lie beside this program.
# Needs paho-mqtt, any version: pip install paho-mqtt
from pathlib import Path

import paho.mqtt.client as mqtt

ID = "{{.ID}}"
FOLDER = Path(__file__).resolve().parent


def on_connect(client, userdata, flags, reason, *properties):
    print("connected:", reason, flush=True)
    client.subscribe(ID + "/#", qos=1)
    client.publish(ID + "/hello", "world", qos=1)


def on_message(client, userdata, message):
    print(message.topic, message.payload.decode(errors="replace"), flush=True)


version = [mqtt.CallbackAPIVersion.VERSION2] if hasattr(mqtt, "CallbackAPIVersion") else []
client = mqtt.Client(*version, client_id=ID)
client.tls_set(ca_certs=str(FOLDER / "ca.pem"), certfile=str(FOLDER / "cert.pem"), keyfile=str(FOLDER / "key.pem"))
client.on_connect = on_connect
client.on_message = on_message
client.connect("{{.Host}}", {{.Port}}, keepalive=60)
client.loop_forever(retry_first_connection=True)
