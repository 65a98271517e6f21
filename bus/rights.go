package bus

import "fmt"

// Role is what a user of the bus does there, and with that what it may.
type Role string

// The roles. What each may is in rightsOf; what each may not is all the rest.
const (
	RoleOwner    Role = "owner"    // makes and changes the streams, and fills new ones: `init` and `restore`, and nothing day to day
	RoleEngine   Role = "engine"   // writes the books, takes the commands, stores snapshots and the feed
	RoleService  Role = "service"  // engine and adapters in one process: `serve` on a bus elsewhere
	RoleAdapter  Role = "adapter"  // a pod: asks for what clients may ask, reads the books and the directory
	RoleOperator Role = "operator" // an operator's commands: the same with every command, and writes the directory
	RoleAuditor  Role = "auditor"  // reads the books, what makes reading them quick, and what the notary has signed
	RoleNotary   Role = "notary"   // reads the books, and is the only one to sign what is in them
	RoleWebhooks Role = "webhooks" // reads the books, and keeps how far webhooks have come
	RoleConsumer Role = "consumer" // reads the feed
	RoleSystem   Role = "system"   // looks after the servers themselves; the program never uses it
)

// Roles are all roles, in the order in which a configuration lists them.
func Roles() []Role {
	return []Role{RoleOwner, RoleEngine, RoleService, RoleAdapter, RoleOperator, RoleAuditor, RoleNotary, RoleWebhooks, RoleConsumer, RoleSystem}
}

// The accounts. ROLLBOOK owns the streams; the others see of it what they import.
//
// A permission list within one account would not do for them: whoever may ask
// JetStream for anything may name any subject as the reply, so a reader's
// STREAM.INFO could be answered *into a book*, past the fence. Across accounts
// the reply stays in the asker's account, where there is no stream. Those who are
// in ROLLBOOK, the owner and the engine, could do that; they are the ones who
// make the books and write them.
const (
	accountHome      = "ROLLBOOK"
	accountPods      = "PODS"
	accountOperators = "OPERATORS"
	accountReaders   = "READERS"
	accountNotaries  = "NOTARIES"
	accountCouriers  = "COURIERS"
	accountConsumers = "CONSUMERS"
	accountSystem    = "SYS"
)

func (r Role) account() string {
	switch r {
	case RoleOwner, RoleEngine, RoleService:
		return accountHome
	case RoleAdapter:
		return accountPods
	case RoleOperator:
		return accountOperators
	case RoleAuditor:
		return accountReaders
	case RoleNotary:
		return accountNotaries
	case RoleWebhooks:
		return accountCouriers
	case RoleConsumer:
		return accountConsumers
	case RoleSystem:
		return accountSystem
	}
	return ""
}

// ask is a subject of ROLLBOOK that a role may publish to.
type ask struct {
	subject string
	many    bool // one request is answered by many messages
	system  bool // it is the servers' own, not ROLLBOOK's
}

// rights are what a role may do: publish, and subscribe to. Its own inboxes come
// on top.
type rights struct {
	asks  []ask
	hears []string
}

func (r *rights) ask(subjects ...string) {
	for _, s := range subjects {
		r.asks = append(r.asks, ask{subject: s})
	}
}

func (r *rights) askMany(subjects ...string) {
	for _, s := range subjects {
		r.asks = append(r.asks, ask{subject: s, many: true})
	}
}

func (r *rights) hear(subjects ...string) { r.hears = append(r.hears, subjects...) }

// rightsOf is the table of what each role may, for a layout of so many
// partitions. podVerbs are the commands that a pod may submit; none: all.
func rightsOf(role Role, partitions int, podVerbs []string) rights {
	var r rights
	switch role {
	case RoleOwner:
		r.ask("$JS.API.>", subjectBookPrefix+"*", subjectDirectory+">", subjectWebhooks+">", subjectCheckpoint+">")
		r.askServers()
	case RoleEngine:
		r.write(partitions)
	case RoleService:
		r.write(partitions)
		r.keepWebhooks()
		r.readCheckpoints()
		r.readDirectory()
		r.showKeys()
	case RoleAdapter:
		r.command(podVerbs)
		r.readBooks(partitions)
		r.readSnapshots()
		r.readCheckpoints()
		r.readDirectory()
		r.showKeys()
		r.ask(subjectAllPods)
		r.hear(subjectAllEngines)
	case RoleOperator:
		r.command(nil)
		r.readBooks(partitions)
		r.readSnapshots()
		r.readCheckpoints()
		r.readDirectory()
		r.readHistory()
		r.readFeed()
		r.ask(subjectDirectory+">", apiMessageDelete+streamDirectory, apiStreamPurge+streamDirectory, apiStreamList, apiStreamInfo+streamKeys)
		r.ask(apiMessageGet + StreamCheckpoints) // for a backup
		r.keepWebhooks()                         // the same, and to have them tried again
		r.hear(subjectAllEngines, subjectAllPods)
		r.askServers()
	case RoleAuditor:
		r.readBooks(partitions)
		r.readSnapshots()
		r.readHistory()
		r.readCheckpoints()
		r.readFeed()
	case RoleNotary:
		r.readBooks(partitions)
		r.readCheckpoints()
		r.ask(subjectCheckpoint+"*", subjectCheckpoint+"*."+tokenLeaves)
	case RoleWebhooks:
		r.readBooks(partitions)
		r.keepWebhooks()
	case RoleConsumer:
		r.readFeed()
		r.takeFeed()
	}
	return r
}

// write is the engine's: the only one to append to the books and to take the
// commands. It makes COMMANDS anew, which does not outlive a server that stands
// alone, and no other stream.
func (r *rights) write(partitions int) {
	r.ask(subjectBookPrefix+"*", subjectAnnouncePrefix+"*", subjectSnapshots+">", subjectHistory+">", subjectFeed+">", subjectFeedMarker+"*", subjectAllEngines, subjectAllPods,
		subjectCommandPrefix+"*.*", inboxPrefix+">",
		"$JS.API.INFO", apiStreamInfo+"*", apiStreamList, "$JS.API.STREAM.NAMES", apiStreamCreate+StreamCommands,
		apiStreamPurge+StreamCommands, apiStreamPurge+StreamSnapshots,
		"$JS.API.CONSUMER.*."+StreamCommands, "$JS.API.CONSUMER.*."+StreamCommands+".>",
		"$JS.API.CONSUMER.DURABLE.CREATE."+StreamCommands+".*", apiConsumerNext+StreamCommands+".*",
		"$JS.ACK."+StreamCommands+".>", "$JS.ACK.*.*."+StreamCommands+".>",
	)
	for p := range Partition(partitions) {
		r.askMany(apiDirectGet + BookStream(p))
	}
	r.askMany(apiDirectGet+StreamHistory, apiDirectGet+StreamHistory+".>")
	r.askMany(apiDirectGet+StreamSnapshots, apiDirectGet+StreamSnapshots+".>", apiDirectGet+StreamFeed, apiDirectGet+StreamFeed+".>")
	r.hear(subjectAllLive, subjectAllAnnounce, subjectAllEngines, subjectAllPods)
	r.askServers()
}

// command submits commands: all, or those of the given verbs.
func (r *rights) command(verbs []string) {
	if len(verbs) == 0 {
		verbs = []string{"*"}
	}
	for _, v := range verbs {
		r.ask(subjectCommandPrefix + "*." + v)
	}
	r.ask(apiStreamInfo + StreamCommands)
}

func (r *rights) readBooks(partitions int) {
	for p := range Partition(partitions) {
		r.ask(apiStreamInfo + BookStream(p))
		r.askMany(apiDirectGet + BookStream(p))
	}
	r.hear(subjectAllLive, subjectAllAnnounce)
}

func (r *rights) readSnapshots() {
	r.ask(apiStreamInfo + StreamSnapshots)
	r.askMany(apiDirectGet+StreamSnapshots, apiDirectGet+StreamSnapshots+".>")
}

func (r *rights) readHistory() {
	r.ask(apiStreamInfo + StreamHistory)
	r.askMany(apiDirectGet+StreamHistory, apiDirectGet+StreamHistory+".>")
}

func (r *rights) readCheckpoints() {
	r.ask(apiStreamInfo + StreamCheckpoints)
	r.askMany(apiDirectGet + StreamCheckpoints)
}

func (r *rights) readDirectory() {
	r.readBucket(streamDirectory)
	r.hear(subjectBellDirectory + ">")
}

func (r *rights) showKeys() {
	r.readBucket(streamKeys)
	r.ask(subjectKeys + ">")
}

func (r *rights) keepWebhooks() {
	r.readBucket(streamWebhooks)
	r.ask(subjectWebhooks + ">")
}

func (r *rights) readBucket(stream string) {
	r.ask(apiStreamInfo+stream, apiMessageGet+stream)
	r.askMany(apiDirectGet+stream, apiDirectGet+stream+".>")
}

// readFeed reads by direct get, and asks the leader whether that was all. The
// events' own subjects are not heard: a batch that comes to nothing passes over
// them too.
func (r *rights) readFeed() {
	r.ask(apiStreamInfo+StreamFeed, apiMessageGet+StreamFeed)
	r.askMany(apiDirectGet+StreamFeed, apiDirectGet+StreamFeed+".>")
	r.hear(subjectFeedBell + "*")
}

// takeFeed takes from consumers that the owner has made: whoever could make one
// could have the feed published into a book.
func (r *rights) takeFeed() {
	r.ask("$JS.API.CONSUMER.INFO."+StreamFeed+".*", "$JS.ACK."+StreamFeed+".>", "$JS.ACK.*.*."+StreamFeed+".>")
	r.askMany(apiConsumerNext + StreamFeed + ".*")
}

// askServers asks the servers how they are set up and how they fare.
func (r *rights) askServers() {
	r.asks = append(r.asks, ask{subject: sysServerJSZ, many: true, system: true})
}

// check refuses a role that is none.
func (r Role) check() error {
	if r.account() == "" {
		return fmt.Errorf("%q is no role on the bus", r)
	}
	return nil
}
