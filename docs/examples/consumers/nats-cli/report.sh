#!/bin/sh
# Prints the next events of sessions that ended, at most N, from where it left off, with the nats command line alone.
#
#   BUS=nats://host:4222 [CREDS=consumer.nk KEY=PUBLIC_KEY] report.sh N [FILE]
#
# FILE keeps the sequence of the last event that was printed. It is written after the event was printed: whoever kills the script
# in between sees that event again. Nothing is made on the server, and no right is needed but a consumer's. The replies have to
# come below the public half of the key.
set -eu

n=${1:?how many events}
file=${2:-report.seq}
bus=${BUS:?the URL of the bus}
last=$(cat "$file" 2>/dev/null || echo 0)

ask() { nats --server "$bus" ${CREDS:+--nkey "$CREDS" --inbox-prefix "_INBOX.$KEY"} req "$@" 2>&1; }

# Retention may have taken what comes next. Between two events there may be a marker; before the first one nothing was missed.
first=$(ask '$JS.API.STREAM.INFO.EVENTS' '' --raw | sed -n 's/.*"first_seq":\([0-9]*\).*/\1/p')
if [ "$last" -gt 0 ] && [ "${first:?the bus does not answer}" -gt $((last + 2)) ]; then
	echo "report: the feed no longer has all that follows $last: it begins with $first" >&2
	exit 1
fi

# The headers say which event it is, the subject whose; the body is msgpack (docs/events.md). A message without a body ends the
# batch.
ask '$JS.API.DIRECT.GET.EVENTS' "{\"seq\":$((last + 1)),\"batch\":$n,\"next_by_subj\":\"rollbook.event.*.*.SessionEnded\"}" \
	--wait-for-empty --reply-timeout 2s |
	LC_ALL=C awk -v file="$file" '
		/Rollbook-Position: / { position = $NF }
		/Nats-Subject: / { subject = $NF }
		/Nats-Sequence: / { sequence = $NF }
		sequence && position && subject {
			print position, subject
			fflush()
			print sequence > file
			close(file)
			position = subject = sequence = ""
		}'
