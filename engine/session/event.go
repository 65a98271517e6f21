package session

import "time"

// Event is what happened. It is written once and never changes.
type Event interface {
	// Type is the event's stable name, for example "SessionStarted".
	Type() EventType
	// When is the time of the book's clock at which it happened.
	When() Instant
	// Whose is the user it concerns; empty when it concerns no single user.
	Whose() UserID
	kind() uint64
	fields(c *coder)
}

// EventType is the stable name of a kind of event.
type EventType string

// Header stands first in every event.
type Header struct {
	At   Instant // when it happened, by the book's clock
	User UserID  // whom it concerns; empty where the event concerns no single user
}

// When implements [Event].
func (h Header) When() Instant { return h.At }

// Whose implements [Event].
func (h Header) Whose() UserID { return h.User }

func (h *Header) fields(c *coder) {
	c.instant(&h.At)
	text(c, &h.User)
}

// The numbers by which events are stored. Never reuse one.
const (
	kindUserRegistered = 1 + iota
	kindUserDisabled
	kindUserEnabled
	kindUserUnlocked
	kindUserLocked
	kindCredentialChanged
	kindLoginRejected
	kindSessionStarted
	kindSessionRefreshed
	kindSessionTouched
	kindSessionEnded
	kindSessionsRevoked
	kindOneTimeIssued
	kindOneTimeRedeemed
	kindResourceDefined
	kindResourceRemoved
	kindLifetimesSet
	kindBookRestored
)

// newEvent makes an empty event of a stored kind, or nil for an unknown one.
func newEvent(kind uint64) Event {
	switch kind {
	case kindUserRegistered:
		return &UserRegistered{}
	case kindUserDisabled:
		return &UserDisabled{}
	case kindUserEnabled:
		return &UserEnabled{}
	case kindUserUnlocked:
		return &UserUnlocked{}
	case kindUserLocked:
		return &UserLocked{}
	case kindCredentialChanged:
		return &CredentialChanged{}
	case kindLoginRejected:
		return &LoginRejected{}
	case kindSessionStarted:
		return &SessionStarted{}
	case kindSessionRefreshed:
		return &SessionRefreshed{}
	case kindSessionTouched:
		return &SessionTouched{}
	case kindSessionEnded:
		return &SessionEnded{}
	case kindSessionsRevoked:
		return &SessionsRevoked{}
	case kindOneTimeIssued:
		return &OneTimeIssued{}
	case kindOneTimeRedeemed:
		return &OneTimeRedeemed{}
	case kindResourceDefined:
		return &ResourceDefined{}
	case kindResourceRemoved:
		return &ResourceRemoved{}
	case kindLifetimesSet:
		return &LifetimesSet{}
	case kindBookRestored:
		return &BookRestored{}
	}
	return nil
}

// UserRegistered: the user may log in from now on.
type UserRegistered struct {
	Header
	Credential uint64 // generation of the first verifier
}

// UserDisabled: logins are refused from now on. The user's sessions end by SessionEnded events of the same page.
type UserDisabled struct{ Header }

// UserEnabled: logins are accepted again.
type UserEnabled struct{ Header }

// UserUnlocked: an operator made the book forget the user's failed logins.
type UserUnlocked struct{ Header }

// UserLocked: too many failures; every login is refused until Until, right or wrong.
type UserLocked struct {
	Header
	Until    Instant // [Forever]: until an operator unlocks
	Failures uint32  // consecutive failures that led here
}

// CredentialChanged: verifiers older than Credential are outdated.
type CredentialChanged struct {
	Header
	Credential uint64 // generation of the verifiers that count from now on
}

// LoginRejected: a login was refused.
type LoginRejected struct {
	Header
	Venue   Venue   // the door it was at
	Refusal Refusal // why
	Verdict Verdict // what the credential check had said
	Client  string  // the application, as the client names it
	RetryAt Instant // with Locked: when the account opens again

	Failures uint32 // with WrongCredentials: consecutive failures, this one included
	Origin   []byte // a sealed [Origin]: where the client was; of a name nobody has, bytes that no key opens
}

// SessionStarted: a login was accepted.
type SessionStarted struct {
	Header
	Session       SessionID     // the session, for its whole life
	Venue         Venue         // the door it was opened through
	Client        string        // the application, as the client names it
	Bound         bool          // it ends with the connection it was opened on
	Credential    uint64        // generation of the verifier that was matched
	Until         Instant       // when it ends, whatever happens
	Idle          time.Duration // it ends when it is not used for so long; zero: it does not
	Access        TokenHash     // of the access token
	AccessUntil   Instant       // when the access token dies; zero: with the session
	AccessIdle    time.Duration // the access token dies when it is not used for so long; zero: it does not
	Refresh       TokenHash     // of the refresh token; zero: there is none
	RefreshUntil  Instant       // when the refresh token dies; zero: with the session
	Failed        uint32        // failed logins of the user since the last good one
	Rejected      uint32        // logins of the user that were refused for another reason since the last good one
	PreviousLogin Instant       // the last good login before; zero: there was none
	Scopes        []string      // what it may do
	Nonce         TokenHash     // what the login answered to, used up by it; zero: nothing
	Pod           PodID         // with Bound: the pod that the client is on
	Origin        []byte        // a sealed [Origin]: where the client was; empty: not recorded
}

// SessionRefreshed: the access token before this one is dead.
type SessionRefreshed struct {
	Header
	Session      SessionID // which
	Generation   uint32    // 2 for the first refresh
	Handle       Handle    // the id that the venue shows from now on
	Access       TokenHash // of the access token from now on
	AccessUntil  Instant   // when that dies; zero: with the session
	Refresh      TokenHash // zero: the refresh token stays; otherwise it was rotated to this
	RefreshUntil Instant   // when the refresh token dies; zero: with the session
	SpentUntil   Instant   // with a rotation: until when the replaced token still leads to the same successor
	Pod          PodID     // of a bound session: the pod that the client is on now; zero: as before
	Origin       []byte    // a sealed [Origin], without a name: where the client was; empty: not recorded
}

// SessionTouched: the session was in use at this time.
type SessionTouched struct {
	Header
	Session SessionID // which
	Pod     PodID     // of a bound session: the pod that the client is on now; zero: as before
}

// SessionEnded: all tokens of the session are dead.
type SessionEnded struct {
	Header
	Session SessionID // which
	Reason  EndReason // why
}

// SessionsRevoked: all sessions of the partition that match are dead.
type SessionsRevoked struct {
	Header
	Venue  Venue   // zero: any
	Client string  // empty: any
	Before Instant // those started before this
	Count  uint64  // how many there were
}

// OneTimeIssued: a token that can be redeemed once, before Until.
type OneTimeIssued struct {
	Header
	Venue    Venue       // the door it is for
	Session  SessionID   // zero: for the user; otherwise it dies with the session
	Token    TokenHash   // of the token
	Until    Instant     // the first instant at which it is no good
	Replaced []TokenHash // the user's oldest ones, dead from here on: there is room for so many
}

// OneTimeRedeemed: the token is used up.
type OneTimeRedeemed struct {
	Header
	Venue Venue     // the door it was redeemed at
	Token TokenHash // of the token
}

// ResourceDefined: the resource exists, in this form, from now on.
type ResourceDefined struct {
	Header
	Resource Resource // all of it
}

// ResourceRemoved: the resource is gone.
type ResourceRemoved struct {
	Header
	Name ResourceName // which
}

// LifetimesSet: tokens of the venue live this long from now on. Those that exist keep their deadlines.
type LifetimesSet struct {
	Header
	Venue     Venue     // whose
	Lifetimes Lifetimes // all of them, also those that did not change; zero: the policy's
}

func (*UserRegistered) Type() EventType    { return "UserRegistered" }
func (*UserDisabled) Type() EventType      { return "UserDisabled" }
func (*UserEnabled) Type() EventType       { return "UserEnabled" }
func (*UserUnlocked) Type() EventType      { return "UserUnlocked" }
func (*UserLocked) Type() EventType        { return "UserLocked" }
func (*CredentialChanged) Type() EventType { return "CredentialChanged" }
func (*LoginRejected) Type() EventType     { return "LoginRejected" }
func (*SessionStarted) Type() EventType    { return "SessionStarted" }
func (*SessionRefreshed) Type() EventType  { return "SessionRefreshed" }
func (*SessionTouched) Type() EventType    { return "SessionTouched" }
func (*SessionEnded) Type() EventType      { return "SessionEnded" }
func (*SessionsRevoked) Type() EventType   { return "SessionsRevoked" }
func (*OneTimeIssued) Type() EventType     { return "OneTimeIssued" }
func (*OneTimeRedeemed) Type() EventType   { return "OneTimeRedeemed" }
func (*ResourceDefined) Type() EventType   { return "ResourceDefined" }
func (*ResourceRemoved) Type() EventType   { return "ResourceRemoved" }
func (*LifetimesSet) Type() EventType      { return "LifetimesSet" }

func (*UserRegistered) kind() uint64    { return kindUserRegistered }
func (*UserDisabled) kind() uint64      { return kindUserDisabled }
func (*UserEnabled) kind() uint64       { return kindUserEnabled }
func (*UserUnlocked) kind() uint64      { return kindUserUnlocked }
func (*UserLocked) kind() uint64        { return kindUserLocked }
func (*CredentialChanged) kind() uint64 { return kindCredentialChanged }
func (*LoginRejected) kind() uint64     { return kindLoginRejected }
func (*SessionStarted) kind() uint64    { return kindSessionStarted }
func (*SessionRefreshed) kind() uint64  { return kindSessionRefreshed }
func (*SessionTouched) kind() uint64    { return kindSessionTouched }
func (*SessionEnded) kind() uint64      { return kindSessionEnded }
func (*SessionsRevoked) kind() uint64   { return kindSessionsRevoked }
func (*OneTimeIssued) kind() uint64     { return kindOneTimeIssued }
func (*OneTimeRedeemed) kind() uint64   { return kindOneTimeRedeemed }
func (*ResourceDefined) kind() uint64   { return kindResourceDefined }
func (*ResourceRemoved) kind() uint64   { return kindResourceRemoved }
func (*LifetimesSet) kind() uint64      { return kindLifetimesSet }

func (x *UserRegistered) fields(c *coder) {
	x.Header.fields(c)
	c.uint(&x.Credential)
}

func (x *UserLocked) fields(c *coder) {
	x.Header.fields(c)
	c.instant(&x.Until)
	c.uint32(&x.Failures)
}

func (x *CredentialChanged) fields(c *coder) {
	x.Header.fields(c)
	c.uint(&x.Credential)
}

func (x *LoginRejected) fields(c *coder) {
	x.Header.fields(c)
	code(c, &x.Venue)
	code(c, &x.Refusal)
	code(c, &x.Verdict)
	text(c, &x.Client)
	c.instant(&x.RetryAt)
	c.uint32(&x.Failures)
	c.blob(&x.Origin)
}

func (x *SessionStarted) fields(c *coder) {
	x.Header.fields(c)
	c.id((*[16]byte)(&x.Session))
	code(c, &x.Venue)
	text(c, &x.Client)
	c.bool(&x.Bound)
	c.uint(&x.Credential)
	c.instant(&x.Until)
	c.duration(&x.Idle)
	c.hash(&x.Access)
	c.instant(&x.AccessUntil)
	c.duration(&x.AccessIdle)
	c.hash(&x.Refresh)
	c.instant(&x.RefreshUntil)
	c.uint32(&x.Failed)
	c.uint32(&x.Rejected)
	c.instant(&x.PreviousLogin)
	texts(c, &x.Scopes)
	c.hash(&x.Nonce)
	c.id((*[16]byte)(&x.Pod))
	c.blob(&x.Origin)
}

func (x *SessionRefreshed) fields(c *coder) {
	x.Header.fields(c)
	c.id((*[16]byte)(&x.Session))
	c.uint32(&x.Generation)
	c.id((*[16]byte)(&x.Handle))
	c.hash(&x.Access)
	c.instant(&x.AccessUntil)
	c.hash(&x.Refresh)
	c.instant(&x.RefreshUntil)
	c.instant(&x.SpentUntil)
	c.id((*[16]byte)(&x.Pod))
	c.blob(&x.Origin)
}

func (x *SessionTouched) fields(c *coder) {
	x.Header.fields(c)
	c.id((*[16]byte)(&x.Session))
	c.id((*[16]byte)(&x.Pod))
}

func (x *SessionEnded) fields(c *coder) {
	x.Header.fields(c)
	c.id((*[16]byte)(&x.Session))
	code(c, &x.Reason)
}

func (x *SessionsRevoked) fields(c *coder) {
	x.Header.fields(c)
	code(c, &x.Venue)
	text(c, &x.Client)
	c.instant(&x.Before)
	c.uint(&x.Count)
}

func (x *OneTimeIssued) fields(c *coder) {
	x.Header.fields(c)
	code(c, &x.Venue)
	c.id((*[16]byte)(&x.Session))
	c.hash(&x.Token)
	c.instant(&x.Until)
	list(c, &x.Replaced, func(hash *TokenHash, c *coder) { c.hash(hash) })
}

func (x *OneTimeRedeemed) fields(c *coder) {
	x.Header.fields(c)
	code(c, &x.Venue)
	c.hash(&x.Token)
}

func (x *ResourceDefined) fields(c *coder) {
	x.Header.fields(c)
	x.Resource.fields(c)
}

func (x *ResourceRemoved) fields(c *coder) {
	x.Header.fields(c)
	text(c, &x.Name)
}

func (x *LifetimesSet) fields(c *coder) {
	x.Header.fields(c)
	code(c, &x.Venue)
	x.Lifetimes.fields(c)
}
