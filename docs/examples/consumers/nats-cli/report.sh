#!/bin/sh
# Prints the next N events of sessions that ended, each once, with the nats command line and nothing else.
#
#   BUS=nats://host:4222 [OWNER=owner.nk] [CONSUMER=consumer.nk KEY=PUBLIC_KEY] report.sh N
#
# The server remembers how far the report has come, by the consumer "report", which the owner of the bus makes once: nobody else
# may. It is told what was taken by the acknowledgements. If the acknowledgement of an event is lost, that event comes again:
# drop what has a Rollbook-Position that is not after the last one of its partition.
set -eu

n=${1:?how many events}
bus=${BUS:?the URL of the bus}

as_owner() { nats --server "$bus" ${OWNER:+--nkey "$OWNER"} "$@"; }
as_consumer() { nats --server "$bus" ${CONSUMER:+--nkey "$CONSUMER" --inbox-prefix "_INBOX.$KEY"} "$@"; }

if ! as_consumer consumer info EVENTS report >/dev/null 2>&1; then
	as_owner consumer add EVENTS report --filter 'rollbook.event.*.*.SessionEnded' --pull --deliver all --ack explicit --defaults >/dev/null
fi

# The headers say which event it is, and the subject whose. The body is msgpack: docs/events.md.
as_consumer consumer next EVENTS report --count "$n" --ack | grep -a -E 'subj: |Rollbook-'
