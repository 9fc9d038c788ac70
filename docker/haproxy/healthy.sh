#!/bin/bash
# Health check with what the image has: no curl, no wget. Healthy while a worker takes requests.
exec 3<>/dev/tcp/127.0.0.1/8404 || exit 1
printf 'GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
read -r -t 3 _ status _ <&3
[ "$status" = 200 ]
