package session

import "time"

// Command is what an adapter or an operator asks of the partition that owns the user. It may be refused.
type Command interface {
	// Verb is the command's stable name; it is also the last token of its bus subject.
	Verb() Verb
	fields(c *coder)
}

// Verb is the stable name of a kind of command.
type Verb string

// The verbs.
const (
	VerbLogin            Verb = "login"
	VerbRefresh          Verb = "refresh"
	VerbLogout           Verb = "logout"
	VerbVerify           Verb = "verify"
	VerbTouch            Verb = "touch"
	VerbExpire           Verb = "expire"
	VerbIssueOneTime     Verb = "issue-one-time"
	VerbRevoke           Verb = "revoke"
	VerbRegister         Verb = "register"
	VerbDisable          Verb = "disable"
	VerbEnable           Verb = "enable"
	VerbUnlock           Verb = "unlock"
	VerbChangeCredential Verb = "change-credential"
	VerbDefineResource   Verb = "define-resource"
	VerbRemoveResource   Verb = "remove-resource"
	VerbSetLifetimes     Verb = "set-lifetimes"
	VerbPodLost          Verb = "pod-lost"
)

// newCommand makes an empty command of the verb, or nil for an unknown verb.
func newCommand(verb Verb) Command {
	switch verb {
	case VerbLogin:
		return &Login{}
	case VerbRefresh:
		return &Refresh{}
	case VerbLogout:
		return &Logout{}
	case VerbVerify:
		return &Verify{}
	case VerbTouch:
		return &Touch{}
	case VerbIssueOneTime:
		return &IssueOneTime{}
	case VerbRevoke:
		return &Revoke{}
	case VerbRegister:
		return &Register{}
	case VerbDisable:
		return &Disable{}
	case VerbEnable:
		return &Enable{}
	case VerbUnlock:
		return &Unlock{}
	case VerbChangeCredential:
		return &ChangeCredential{}
	case VerbDefineResource:
		return &DefineResource{}
	case VerbRemoveResource:
		return &RemoveResource{}
	case VerbSetLifetimes:
		return &SetLifetimes{}
	case VerbPodLost:
		return &PodLost{}
	}
	return nil // VerbExpire never travels: it is the writer's own
}

// Verdict is what the adapter found when it checked the presented credential against the directory.
type Verdict uint8

// The verdicts. The zero value is none of them, so a forgotten verdict is never a match.
const (
	Matched    Verdict = 1
	Mismatched Verdict = 2
	NoSuchUser Verdict = 3 // User is then a decoy id derived from the name, so that unknown names lock like known ones
)

// Login asks to open a session. Session, Access and Refresh are minted by the pod; only hashes travel.
type Login struct {
	User       UserID
	Venue      Venue
	Client     string // at most 64 bytes
	Verdict    Verdict
	Credential uint64 // generation of the verifier that the verdict was made with
	Session    SessionID
	Access     TokenHash
	Refresh    TokenHash // used only where the policy makes sessions refreshable
	Bound      bool
	Scopes     []string
	Nonce      TokenHash // when set: what the client answered to, good for one accepted login
	Until      Instant   // when set: the session ends by then, because what it was opened with does
	Pod        PodID     // that the client is on; kept of a bound session
	Origin     []byte    // a sealed [Origin], for the event
}

// Refresh asks for new tokens. Where the venue rotates, Refresh is the successor that the pod derived from Presented,
// so that a repeat presents the same one; where it does not, Refresh is ignored.
type Refresh struct {
	User      UserID
	Venue     Venue
	Session   SessionID
	Presented TokenHash
	Handle    Handle
	Access    TokenHash
	Refresh   TokenHash
	Pod       PodID  // that the client is on; kept of a bound session
	Origin    []byte // a sealed [Origin], for the event
}

// Logout asks to end a session. It is idempotent.
type Logout struct {
	User       UserID
	Session    SessionID
	Reason     EndReason // LoggedOut or Disconnected
	Generation uint32    // when set: only if the session has not been refreshed since (else Superseded)
}

// Verify redeems a one-time token, exactly once.
type Verify struct {
	User  UserID
	Venue Venue
	Token TokenHash
}

// Touch records that a session is in use, which moves its idle deadlines, and to which pod its client has come.
type Touch struct {
	User    UserID
	Session SessionID
	Pod     PodID // kept of a bound session
}

// PodLost ends the bound sessions whose clients were on a pod that has not been heard of for the time of its lease,
// [MaxExpired] of them at a time: it is repeated until its reply counts none. It goes to every partition.
type PodLost struct{ Pod PodID }

// Expire ends sessions whose deadline has passed. The writer gives it to itself; it never travels.
type Expire struct{}

// IssueOneTime registers a one-time token for a user, or for one of their sessions: then it dies with the session.
type IssueOneTime struct {
	User     UserID
	Venue    Venue
	Session  SessionID // zero: for the user
	Token    TokenHash
	Lifetime time.Duration // zero: the policy's
}

// Revoke ends sessions. With Session: that one. With User: all of the user's that match. With neither: all of the
// partition's that match, by one event; and because "all of them" is what a forgotten selector would mean too, it must
// be asked for with All when nothing else selects.
type Revoke struct {
	User    UserID
	Session SessionID
	Venue   Venue   // zero: any
	Client  string  // empty: any
	Before  Instant // only sessions started before this; zero: any
	All     bool    // with no selector above: really all
}

// Register makes a user known to the book.
type Register struct {
	User       UserID
	Credential uint64 // generation of the first verifier; at least 1
}

// Disable ends all sessions of a user and refuses logins.
type Disable struct{ User UserID }

// Enable undoes Disable.
type Enable struct{ User UserID }

// Unlock forgets a user's failed logins.
type Unlock struct{ User UserID }

// ChangeCredential announces a new verifier, already stored in the directory. Logins judged with an older one are
// stale from here on.
type ChangeCredential struct {
	User        UserID
	Credential  uint64
	EndSessions bool // end the user's sessions too (OWASP ASVS 5.0, 7.4.3)
}

// DefineResource makes a resource known, or replaces it. Resources live in partition 0.
type DefineResource struct{ Resource Resource }

// RemoveResource forgets a resource.
type RemoveResource struct{ Name ResourceName }

// SetLifetimes changes how long a venue's tokens live from now on; a field that is zero stays as it is. With all of
// them zero it changes nothing and tells what they are. It goes to every partition.
type SetLifetimes struct {
	Venue     Venue
	Lifetimes Lifetimes
}

func (*Login) Verb() Verb            { return VerbLogin }
func (*Refresh) Verb() Verb          { return VerbRefresh }
func (*Logout) Verb() Verb           { return VerbLogout }
func (*Verify) Verb() Verb           { return VerbVerify }
func (*Touch) Verb() Verb            { return VerbTouch }
func (*Expire) Verb() Verb           { return VerbExpire }
func (*IssueOneTime) Verb() Verb     { return VerbIssueOneTime }
func (*Revoke) Verb() Verb           { return VerbRevoke }
func (*Register) Verb() Verb         { return VerbRegister }
func (*Disable) Verb() Verb          { return VerbDisable }
func (*Enable) Verb() Verb           { return VerbEnable }
func (*Unlock) Verb() Verb           { return VerbUnlock }
func (*ChangeCredential) Verb() Verb { return VerbChangeCredential }
func (*DefineResource) Verb() Verb   { return VerbDefineResource }
func (*RemoveResource) Verb() Verb   { return VerbRemoveResource }
func (*SetLifetimes) Verb() Verb     { return VerbSetLifetimes }
func (*PodLost) Verb() Verb          { return VerbPodLost }

func (x *Login) fields(c *coder) {
	text(c, &x.User)
	code(c, &x.Venue)
	text(c, &x.Client)
	code(c, &x.Verdict)
	c.uint(&x.Credential)
	c.id((*[16]byte)(&x.Session))
	c.hash(&x.Access)
	c.hash(&x.Refresh)
	c.bool(&x.Bound)
	texts(c, &x.Scopes)
	c.hash(&x.Nonce)
	c.instant(&x.Until)
	c.id((*[16]byte)(&x.Pod))
	c.blob(&x.Origin)
}

func (x *Refresh) fields(c *coder) {
	text(c, &x.User)
	code(c, &x.Venue)
	c.id((*[16]byte)(&x.Session))
	c.hash(&x.Presented)
	c.id((*[16]byte)(&x.Handle))
	c.hash(&x.Access)
	c.hash(&x.Refresh)
	c.id((*[16]byte)(&x.Pod))
	c.blob(&x.Origin)
}

func (x *Logout) fields(c *coder) {
	text(c, &x.User)
	c.id((*[16]byte)(&x.Session))
	code(c, &x.Reason)
	c.uint32(&x.Generation)
}

func (x *Verify) fields(c *coder) {
	text(c, &x.User)
	code(c, &x.Venue)
	c.hash(&x.Token)
}

func (x *Touch) fields(c *coder) {
	text(c, &x.User)
	c.id((*[16]byte)(&x.Session))
	c.id((*[16]byte)(&x.Pod))
}

func (x *PodLost) fields(c *coder) { c.id((*[16]byte)(&x.Pod)) }

func (*Expire) fields(*coder) {}

func (x *IssueOneTime) fields(c *coder) {
	text(c, &x.User)
	code(c, &x.Venue)
	c.id((*[16]byte)(&x.Session))
	c.hash(&x.Token)
	c.duration(&x.Lifetime)
}

func (x *Revoke) fields(c *coder) {
	text(c, &x.User)
	c.id((*[16]byte)(&x.Session))
	code(c, &x.Venue)
	text(c, &x.Client)
	c.instant(&x.Before)
	c.bool(&x.All)
}

func (x *Register) fields(c *coder) {
	text(c, &x.User)
	c.uint(&x.Credential)
}

func (x *Disable) fields(c *coder) { text(c, &x.User) }
func (x *Enable) fields(c *coder)  { text(c, &x.User) }
func (x *Unlock) fields(c *coder)  { text(c, &x.User) }

func (x *ChangeCredential) fields(c *coder) {
	text(c, &x.User)
	c.uint(&x.Credential)
	c.bool(&x.EndSessions)
}

func (x *DefineResource) fields(c *coder) { x.Resource.fields(c) }
func (x *RemoveResource) fields(c *coder) { text(c, &x.Name) }

func (x *SetLifetimes) fields(c *coder) {
	code(c, &x.Venue)
	x.Lifetimes.fields(c)
}
