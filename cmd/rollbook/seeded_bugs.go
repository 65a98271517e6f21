//go:build seeded

package main

import (
	"os"

	"rollbook/engine/session"
)

func init() { session.Sow(os.Getenv("ROLLBOOK_SEEDED_BUG")) }
