#!/bin/sh
# Installs on Debian what the tests' backends need and is missing: Java and Maven (which bring Kafka on first use),
# PostgreSQL, Redis, and the gRPC client that the protocol of predictions is tested with. Asks sudo when it is not
# root. Starts none of them.
set -eu

missing=
command -v java >/dev/null || missing="$missing openjdk-17-jre-headless"
command -v mvn >/dev/null || missing="$missing maven"
command -v redis-server >/dev/null || missing="$missing redis-server"
command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v setpriv >/dev/null || missing="$missing util-linux"
/usr/bin/python3 -c 'import grpc, google.protobuf' 2>/dev/null || missing="$missing python3-grpcio python3-protobuf"

if [ -z "$missing" ]; then
  echo 'backends: everything is installed' >&2
  exit 0
fi
echo "backends: installing$missing" >&2
if ! command -v apt-get >/dev/null; then
  echo 'backends: this is not Debian; install the above by other means' >&2
  exit 1
fi

if [ "$(id -u)" != 0 ]; then
  exec sudo sh "$0"
fi

# The packages must not start servers: the tests start their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >&2
