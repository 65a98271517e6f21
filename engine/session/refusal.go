package session

import "fmt"

// Refusal is the domain's "no": a value with a stable code, not an error. The numbers are stored in the book and never
// change meaning; the names stand in logs, metrics and the feed.
type Refusal uint8

// The refusals. Each says what the one who asked can do.
const (
	Accepted         Refusal = 0  // not a refusal
	WrongCredentials Refusal = 1  // unknown user or wrong secret, deliberately one answer: try again
	Locked           Refusal = 2  // too many failures: wait until Reply.RetryAt, or ask an operator
	Disabled         Refusal = 3  // the account is disabled: ask an operator
	TooManySessions  Refusal = 4  // end another session first
	StaleCredential  Refusal = 5  // judged against an outdated verifier: read the directory again and repeat
	InvalidToken     Refusal = 6  // the token belongs to no live session: log in
	ExpiredToken     Refusal = 7  // past its deadline: refresh or log in
	ReusedToken      Refusal = 8  // a spent refresh token came back: the session has been ended, log in
	UnknownSession   Refusal = 9  // no such session, now or lately
	Superseded       Refusal = 10 // the session has moved on since the condition was set
	UnknownUser      Refusal = 11 // operator commands only: no such user is registered
	AlreadyExists    Refusal = 12 // the id is taken
	InvalidCommand   Refusal = 13 // malformed: never sent by a correct adapter
	UnknownResource  Refusal = 14 // no such resource is defined
	NotPermitted     Refusal = 15 // authenticated, but not for this
	PasswordUnset    Refusal = 16 // the user has nothing to log in with at this venue
	refusalsEnd      Refusal = 17
)

var refusalNames = [refusalsEnd]string{
	"accepted", "wrong_credentials", "locked", "disabled", "too_many_sessions", "stale_credential", "invalid_token",
	"expired_token", "reused_token", "unknown_session", "superseded", "unknown_user", "already_exists",
	"invalid_command", "unknown_resource", "not_permitted", "password_unset",
}

// String is the stable code, for example "wrong_credentials".
func (r Refusal) String() string {
	if r < refusalsEnd {
		return refusalNames[r]
	}
	return fmt.Sprintf("refusal-%d", uint8(r))
}

// Refusals lists every code but Accepted, in order of number: for adapters that must map each of them.
func Refusals() []Refusal {
	all := make([]Refusal, 0, refusalsEnd-1)
	for r := Accepted + 1; r < refusalsEnd; r++ {
		all = append(all, r)
	}
	return all
}

// EndReason says why a session ended. The numbers are stored in the book and never change meaning.
type EndReason uint8

// The reasons.
const (
	LoggedOut       EndReason = 1  // its owner logged out
	Expired         EndReason = 2  // a deadline passed
	Revoked         EndReason = 3  // an operator or its owner revoked it from elsewhere
	Reused          EndReason = 4  // a spent refresh token came back
	Evicted         EndReason = 5  // the oldest made room for a new login
	UserWasDisabled EndReason = 6  // the account was disabled
	CredentialReset EndReason = 7  // the credential changed and other sessions were to end
	Disconnected    EndReason = 8  // the connection it was bound to is gone
	PodGone         EndReason = 9  // the pod that its connection was on is gone
	Restored        EndReason = 10 // it was live in a backup that the book was restored from
)

var reasonNames = [...]string{
	"", "logout", "expired", "revoked", "reuse", "evicted", "disabled", "credential_changed", "disconnected", "pod_gone", "restored",
}

// String is the stable name, for example "expired".
func (r EndReason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}
