#!/usr/bin/env python3
"""Run one real inference server: llama.cpp's own HTTP server over a tiny model.

It answers chat, completions, embeddings, messages and responses for one model.
Its address is the first line of stdout; it serves until its standard input
closes or it is told to stop.  The library writes its own log to stderr.
"""

import argparse
import signal
import sys
import threading

import xllamacpp


def parse_args():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("model", metavar="MODEL.gguf")
    p.add_argument("--alias", required=True, help="the name clients ask for")
    p.add_argument("--port", type=int, default=0, help="0 (default): the kernel chooses")
    p.add_argument("--slots", type=int, default=2, help="parallel requests (default: 2)")
    p.add_argument("--context", type=int, default=2048, help="tokens per slot (default: 2048)")
    return p.parse_args()


def params(args):
    p = xllamacpp.CommonParams()
    p.model.path = args.model
    p.model_alias = {args.alias}
    p.port = args.port
    p.n_parallel = args.slots
    # The server divides the whole context among its slots.
    p.n_ctx = args.context * args.slots
    # With pooling the one model answers both chat and embeddings.
    p.embedding = True
    p.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    p.endpoint_metrics = True
    p.cpuparams.n_threads = 1
    p.fit_params = False
    p.ui = False
    return p


def main():
    args = parse_args()
    server = xllamacpp.Server(params(args))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # A parent that dies closes our stdin; no orphan stays behind.
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    print(server.listening_address, flush=True)
    stop.wait()
    del server


if __name__ == "__main__":
    main()
