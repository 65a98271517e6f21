package nebula

import (
	"strconv"

	"rollbook/adapters"
)

// The classes of calls, for metrics: those of HTTP, then those of frames.
const (
	classLogin  adapters.CallClass = "login"
	classKeys   adapters.CallClass = "keys"
	classRest   adapters.CallClass = "rest"   // what the venue has beside the login
	classSocket adapters.CallClass = "socket" // a handshake

	classSession   adapters.CallClass = "session" // createSession, in any spelling
	classHeartbeat adapters.CallClass = "heartbeat"
	classCancel    adapters.CallClass = "cancel"
	classOther     adapters.CallClass = "other"
)

// classOf is the class of a frame: qualifiers that a client makes up are all one.
func classOf(f frame) adapters.CallClass {
	switch {
	case f.cancel:
		return classCancel
	case f.qualifier == nebulaCreate, f.qualifier == exchangeCreate, f.qualifier == "v1/"+exchangeCreate:
		return classSession
	case f.qualifier == heartbeat:
		return classHeartbeat
	}
	return classOther
}

// outcome is what the fault is counted as: the code that the client is told, in a frame or over HTTP.
func (f *fault) outcome(code int) adapters.Outcome {
	switch f {
	case &busy:
		return adapters.OutcomeBusy
	case &unavailable:
		return adapters.OutcomeUnavailable
	}
	return adapters.Outcome(strconv.Itoa(code))
}
