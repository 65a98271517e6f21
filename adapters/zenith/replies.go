package zenith

import (
	"net/http"
	"strconv"
	"strings"

	"rollbook/adapters"
)

// The classes of what is no publication to a topic; those have theirs in [topics].
const (
	classSocket      adapters.CallClass = "socket" // a handshake
	classSubscribe   adapters.CallClass = "subscribe"
	classUnsubscribe adapters.CallClass = "unsubscribe"
	classOther       adapters.CallClass = "other"
)

// outcomeRejected is the venue's one word for every refusal of a login, whichever spelling the client is told.
const outcomeRejected adapters.Outcome = no

// classOf is the class of a request, by the table of topics: topics that a client makes up are all one.
func classOf(r request) adapters.CallClass {
	switch r.action {
	case subscribe:
		return classSubscribe
	case unsubscribe:
		return classUnsubscribe
	case publish:
		if t, served := topics[key{r.controller, r.topic}]; served && t.class != "" {
			return t.class
		}
	}
	return classOther
}

// outcomeOf is what the client is told by the messages that answer a request. None is a call that went well in silence.
func outcomeOf(list []envelope) adapters.Outcome {
	if len(list) == 0 || list[0].outcome == "" {
		return adapters.OutcomeGood
	}
	return list[0].outcome
}

// codeOutcome is an error's code without the culprit behind it, which the client has named.
func codeOutcome(code string) adapters.Outcome {
	if code == unavailable {
		return adapters.OutcomeUnavailable
	}
	code, _, _ = strings.Cut(code, " ")
	return adapters.Outcome(code)
}

func (v verdict) outcome() adapters.Outcome {
	switch {
	case v.rejected:
		return outcomeRejected
	case v.busy:
		return adapters.OutcomeBusy
	case v.no():
		return codeOutcome(v.code)
	}
	return adapters.OutcomeGood
}

// refuse answers over HTTP, with one line of text, what is not to become a socket.
func (h *Handler) refuse(w http.ResponseWriter, class adapters.CallClass, text string, status int) {
	outcome := adapters.Outcome("HTTP " + strconv.Itoa(status))
	if status == http.StatusServiceUnavailable {
		outcome = adapters.OutcomeUnavailable
	}
	h.replies.Count(class, outcome)
	http.Error(w, text, status)
}
