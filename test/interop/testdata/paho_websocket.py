"""paho_client.py over WebSocket."""

import functools
import os
import runpy

import paho.mqtt.client as mqtt

mqtt.Client = functools.partial(mqtt.Client, transport="websockets")
runpy.run_path(os.path.join(os.path.dirname(__file__), "paho_client.py"), run_name="__main__")
