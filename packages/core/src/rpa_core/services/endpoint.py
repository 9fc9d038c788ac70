"""Looking at a service over HTTP or TCP, with the standard library alone."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from rpa_core.config.models import ServiceDependency
from rpa_core.services.diagnosis import Diagnosis, Fault, of_status


def probe_service(service: ServiceDependency) -> Diagnosis | None:
    """None when the service answers 2xx (or accepts a TCP connection), else what is wrong."""
    if service.health_endpoint.startswith("tcp://"):
        return _probe_tcp(service.health_endpoint, service.timeout)
    return _probe_http(service.health_endpoint, service.timeout)


def _probe_tcp(address: str, timeout_s: float) -> Diagnosis | None:
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout_s):
            return None
    except OSError as error:
        return _of_network(error, timeout_s)


def _probe_http(address: str, timeout_s: float) -> Diagnosis | None:
    # No proxies: what they are is read from the process environment, and a dependency is near.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(address, headers={"User-Agent": "rpa-check"})  # noqa: S310 - scheme checked
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            status = int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            status = error.code
    except urllib.error.URLError as error:
        return _of_network(error.reason if isinstance(error.reason, OSError) else error, timeout_s)
    except OSError as error:
        return _of_network(error, timeout_s)
    except http.client.HTTPException as error:
        seen = f"what answered does not speak HTTP ({type(error).__name__})"
        return Diagnosis(fault=Fault.OTHER, seen=seen, advice="correct host and port", final=False)
    return None if 200 <= status < 300 else of_status(status)


def _of_network(error: OSError, timeout_s: float) -> Diagnosis:
    if isinstance(error, ssl.SSLCertVerificationError):
        seen = f"its certificate is not trusted: {error.verify_message}"
        advice = "install the CA that signed it, or correct the host name in the address"
        return Diagnosis(fault=Fault.TLS, seen=seen, advice=advice, final=True)
    if isinstance(error, ssl.SSLError):
        advice = "check that the address should be https:// and the port speaks TLS"
        return Diagnosis(fault=Fault.TLS, seen=f"TLS failed: {error.reason}", advice=advice, final=False)
    if isinstance(error, TimeoutError):
        seen = f"no answer within {timeout_s:g} s"
        advice = "check firewall and load; raise its TIMEOUT if it is just slow"
        return Diagnosis(fault=Fault.TIMEOUT, seen=seen, advice=advice, final=False)
    if isinstance(error, socket.gaierror):
        advice = "correct the host name, or check DNS and that the network is attached"
        return Diagnosis(fault=Fault.UNRESOLVABLE, seen="host name not found", advice=advice, final=False)
    advice = "check host and port, and that it runs and listens there"
    seen = (error.strerror or str(error) or type(error).__name__).lower()
    return Diagnosis(fault=Fault.REFUSED, seen=seen, advice=advice, final=False)
