"""A client of Python that does what it is told: driver.py paho|gmqtt.

Commands come as JSON, one a line, and each is answered by one line: what the command gives, or
`{"error": why}`. They name the client they mean by a number; `open` makes one.
"""

import json
import os
import sys

from refusal import Refused


def answer(kind, clients, command):
    do, number = command.pop("do"), command.pop("client")
    if do == "open":
        client = kind(command)
        try:
            present = client.open()
        except Refused as refused:
            return {"refused": refused.code}
        clients[number] = client
        return {"present": present}
    client = clients.pop(number) if do in ("disconnect", "cut", "await_end") else clients[number]
    if do == "publish":
        command["payload"] = bytes.fromhex(command["payload"])
        command["properties"] = [tuple(pair) for pair in command["properties"]]
    result = getattr(client, do)(**command)
    if do == "receive" and result:
        result["payload"] = result["payload"].hex()
    return {"result": result}


def main():
    if sys.argv[1] == "paho":
        from paho_client import PahoClient as kind
    else:
        from gmqtt_client import GmqttClient as kind
    clients = {}
    for line in sys.stdin:
        try:
            said = answer(kind, clients, json.loads(line))
        except Exception as error:  # whatever it is, the test tells it
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
    os._exit(0)  # the threads of clients still run
