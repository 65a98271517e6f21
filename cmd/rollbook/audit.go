package main

type auditCommands struct {
	Replay      auditReplay      `cmd:"" help:"Show what happened: to a user, in a session, at a venue, in a stretch of time."`
	At          auditAt          `cmd:"" help:"Show who was logged in at a moment."`
	Stats       auditStats       `cmd:"" help:"Count logins, refusals, ends, and sessions at once."`
	Verify      auditVerify      `cmd:"" help:"Check that the book, or an export, is what the notary signed."`
	Export      auditExport      `cmd:"" help:"Write pages and checkpoints into a file that verify takes offline."`
	Prove       auditProve       `cmd:"" help:"Prove a session's events, or one event, to somebody who sees nothing else."`
	VerifyProof auditVerifyProof `cmd:"" help:"Check what prove wrote, offline."`
	Checkpoints auditCheckpoints `cmd:"" help:"List the notary's checkpoints, or keep the newest."`
	Witness     auditWitness     `cmd:"" help:"Remember the notary's checkpoints, refuse what does not go on from them, and sign the rest beside."`
	Key         auditKey         `cmd:"" help:"Make a key, for a notary or a witness."`
	Rotate      auditRotate      `cmd:"" help:"Have the notary hand over to a new key."`
}
