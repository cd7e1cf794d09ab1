"""Reads the stream of a broker as a browser does, and changes the broker meanwhile by its control socket."""

import http.client
import json
import socket
import sys

url, control = sys.argv[1:]
address = url.split("//")[1]


def stream(headers={}, path="/api/v1/stream"):
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    assert response.status == 200, response.status
    assert response.getheader("Content-Type") == "text/event-stream"
    return connection, response


def messages(response):
    """Messages as the HTML standard has them: name, data, id."""
    name, data, last = "", [], ""
    for line in response:
        line = line.decode().rstrip("\n")
        if line == "":
            if data:
                yield name, json.loads("\n".join(data)), last
            name, data = "", []
        elif not line.startswith(":"):
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif field == "id":
                last = value


def command(line):
    client = socket.socket(socket.AF_UNIX)
    client.connect(control)
    client.sendall((line + "\n").encode())
    answer = b""
    while b"= " not in answer.splitlines()[-1:][0] if answer else True:
        answer += client.recv(65536)
    client.close()
    return answer.decode()


connection, response = stream()
told = messages(response)
name, hello, first_id = next(told)
assert name == "hello" and hello["schema"] == "tapline.stream/1", hello
assert first_id == f"{hello['boot']}-{hello['since']}", first_id
name, plan, _ = next(told)
assert name == "plan" and plan["confirm"] is None, plan

# statistics come again and again, with numbers that grow
seen = []
while len(seen) < 3:
    name, data, _ = next(told)
    if name == "stats":
        assert data["schema"] == "tapline.stats/1" and data["rules"], data
        seen.append(data)
assert [data["seq"] for data in seen] == sorted({data["seq"] for data in seen})
assert [data["time"] for data in seen] == sorted({data["time"] for data in seen})

# events come at once, and so does the plan that is another one
assert "drained" in command("tool drain t")
events, last = [], None
while not any(event["kind"] == "tool_changed" and event["to"] == "drained" for event in events):
    name, data, last = next(told)
    if name == "event":
        assert last == f"{hello['boot']}-{data['seq']}", (last, data)
        events.append(data)
command("rule disable 20")
while True:
    name, data, _ = next(told)
    if name == "plan":
        assert data["id"] == plan["id"] + 1 and data["sha256"] != plan["sha256"], data
        break
connection.close()

# whoever comes back is told what has happened meanwhile
command("tool enable t")
connection, response = stream({"Last-Event-ID": last})
missed = []
for name, data, _ in messages(response):
    if name == "event":
        missed.append(data)
        if data["kind"] == "tool_changed" and data["to"] == "up":
            break
assert [event["seq"] for event in missed] == list(range(int(last.split("-")[1]) + 1, missed[-1]["seq"] + 1)), missed
connection.close()

# an id of another start, and no id but a number: all that is kept
for headers, path in [({"Last-Event-ID": "0-999999"}, "/api/v1/stream"), ({}, "/api/v1/stream?since=0")]:
    connection, response = stream(headers, path)
    for name, data, _ in messages(response):
        if name == "event":
            assert data["seq"] == 1, data
            break
    connection.close()
print("ok")
