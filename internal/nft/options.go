//go:build linux

package nft

import (
	"errors"
	"fmt"
	"math/bits"
)

// Options are what an operator may choose about the table.
type Options struct {
	Table    string // name of the nftables table; "" means "picket"
	MarkMask uint32 // bits of the connection mark that hold the generation: one run of at least 2 bits; 0 means 0xfff00000
	LogGroup uint16 // netlink log group for denied packets; 0 logs nothing
	Audit    bool   // what would be denied is counted and logged, and let through
}

// WithDefaults fills in what is not set.
func (o Options) WithDefaults() Options {
	if o.Table == "" {
		o.Table = "picket"
	}
	if o.MarkMask == 0 {
		o.MarkMask = 0xfff00000
	}
	return o
}

// Validate says what is wrong with the options.
func (o Options) Validate() error {
	o = o.WithDefaults()
	run := o.MarkMask >> bits.TrailingZeros32(o.MarkMask)
	if run&(run+1) != 0 || run < 3 || run == 1<<32-1 {
		return fmt.Errorf("mark mask %#x: want one run of 2 to 31 bits", o.MarkMask)
	}
	if len(o.Table) > 200 {
		return errors.New("the name of the table is longer than 200 bytes")
	}
	for i, c := range []byte(o.Table) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c != '-' && c != '.' && (c < '0' || c > '9')) {
			return fmt.Errorf("%q is no name for a table: want letters, digits, and \"_-.\", a letter first", o.Table)
		}
	}
	return nil
}

// generations is how many generations there are. They run from 1, so that a
// connection without mark is of none.
func (o Options) generations() uint32 { return o.MarkMask >> bits.TrailingZeros32(o.MarkMask) }

// mark is the generation as it stands in the connection mark.
func (o Options) mark(generation uint32) uint32 {
	return ((generation-1)%o.generations() + 1) << bits.TrailingZeros32(o.MarkMask)
}

// generationOf is the generation in a mark, 0 for none.
func (o Options) generationOf(mark uint32) uint32 {
	return mark & o.MarkMask >> bits.TrailingZeros32(o.MarkMask)
}
