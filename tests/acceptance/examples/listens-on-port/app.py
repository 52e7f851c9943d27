import os
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

port = int(os.environ["PORT"])
print(f"listening on {port}", flush=True)
os.chdir("site")
ThreadingHTTPServer(("0.0.0.0", port), SimpleHTTPRequestHandler).serve_forever()
