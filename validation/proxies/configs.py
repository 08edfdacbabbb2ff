"""Configuration of the proxies that read a file: one core, connections kept, nothing held back."""

from __future__ import annotations

from validation.proxies.site import Site

# Twice the streams that are held open, and some.
_CONNECTIONS = 8192
_REQUESTS = 1_000_000_000


def nginx_conf(site: Site) -> str:
    """One worker; connections to the replicas are kept; no buffering of answers."""
    servers = "\n    ".join(f"server {replica};" for replica in site.replicas)
    return f"""\
daemon off;
worker_processes 1;
pid {site.folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections {_CONNECTIONS}; }}
http {{
  access_log off;
  client_body_temp_path {site.folder}/nginx-body;
  proxy_temp_path {site.folder}/nginx-proxy;
  fastcgi_temp_path {site.folder}/nginx-fastcgi;
  uwsgi_temp_path {site.folder}/nginx-uwsgi;
  scgi_temp_path {site.folder}/nginx-scgi;
  keepalive_requests {_REQUESTS};
  upstream source {{
    {servers}
    keepalive 256;
    keepalive_requests {_REQUESTS};
  }}
  server {{
    listen 127.0.0.1:{site.port} backlog=4096;
    location / {{
      proxy_pass http://source;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def haproxy_cfg(site: Site) -> str:
    """One thread; connections to the replicas are shared; chunks are passed on at once."""
    servers = "\n  ".join(
        f"server replica{index} {replica}" for index, replica in enumerate(site.replicas)
    )
    return f"""\
global
  nbthread 1
  maxconn {_CONNECTIONS}
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-no-delay
  http-reuse always
listen proxy
  bind 127.0.0.1:{site.port} backlog 4096
  balance roundrobin
  {servers}
"""
