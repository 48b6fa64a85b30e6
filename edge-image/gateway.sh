#!/bin/sh
# A gateway for one's own machine: a containerd, and the edge's image run by it.
set -eu
readonly DATA=/var/lib/fedge NODE=${FEDGE_EDGE_NODE_NAME:?the name of the node}
readonly TOKEN=/run/fedge-token/$NODE

# containerd has to see what the edge mounts there; at the same path, which a volume's root is not
mkdir -p /var/lib/gateway/fedge "$DATA"
mount --bind /var/lib/gateway/fedge "$DATA"
mount --make-rprivate "$DATA" # else it would follow this machine's, and look one-way from inside
mount --make-rshared "$DATA"
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    # with version 2 a group that has processes hands nothing down
    mkdir -p /sys/fs/cgroup/gateway
    while read -r pid; do echo "$pid" >/sys/fs/cgroup/gateway/cgroup.procs || true; done \
        </sys/fs/cgroup/cgroup.procs
    for each in cpu memory pids; do
        echo "+$each" >/sys/fs/cgroup/cgroup.subtree_control || true
    done
fi

containerd --config /gateway.toml &
containerd=$!
until ctr version >/dev/null 2>&1; do
    kill -0 "$containerd" # it may have ended
    sleep 0.2
done
for each in k8s.io=/pods.tar fedge=/edge.tar; do
    ctr --namespace "${each%%=*}" images import "${each#*=}" >/dev/null
done
# a gateway that lost its power finds the container of before
ctr --namespace fedge containers delete edge >/dev/null 2>&1 || true

if [ ! -e "$DATA/identity/joined.json" ]; then
    echo "gateway: waiting for the token of $NODE in $TOKEN" >&2
    until [ -s "$TOKEN" ]; do sleep 0.5; done
    (umask 077 && cp "$TOKEN" "$DATA/join-token")
fi

ctr --namespace fedge run --rm --net-host --rootfs-propagation rshared \
    --cap-add CAP_SYS_ADMIN --cap-add CAP_NET_ADMIN \
    --mount "type=bind,src=$DATA,dst=$DATA,options=rbind:rshared" \
    --mount type=bind,src=/run/containerd,dst=/run/containerd,options=rbind \
    --env "FEDGE_EDGE_NODE_NAME=$NODE" --env "FEDGE_JOIN_TOKEN_FILE=$DATA/join-token" \
    --env "FEDGE_MQTT_ANONYMOUS=${FEDGE_MQTT_ANONYMOUS:-false}" \
    docker.io/fedge/edge:0.1.0 edge &
edge=$!
stop() {
    kill -TERM "$edge" 2>/dev/null || true
    wait "$edge" || true
    kill -TERM "$containerd" 2>/dev/null || true
    exit 0
}
trap stop TERM INT
wait "$edge"
