package tnef

import (
	"encoding/binary"
	"fmt"
)

// The dictionary that compressed RTF begins with, and the magic numbers (MS-OXRTFCP, section 2.2).
const (
	dictionary = `{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0` +
		"\r\n" + `\par \pard\plain\f0\fs20\b\i\u\tab\tx`
	magicCompressed   = 0x75465a4c // LZFu
	magicUncompressed = 0x414c454d // MELA
)

// Decompress undoes the compression of RTF, at most limit bytes of it. What could be read comes with the error too.
func Decompress(b []byte, limit int) ([]byte, error) {
	if len(b) < 16 {
		return nil, fmt.Errorf("compressed RTF: %w", ErrDamaged)
	}
	size, raw, magic := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	var err error
	if uint64(size)+4 < uint64(len(b)) && size >= 12 {
		b = b[:size+4]
	} else if uint64(size)+4 > uint64(len(b)) {
		err = fmt.Errorf("compressed RTF: %w", ErrDamaged)
	}
	b = b[16:]
	want := int(min(uint64(raw), uint64(max(limit, 0))))
	if uint64(raw) > uint64(want) {
		err = fmt.Errorf("compressed RTF: %w", ErrLimit)
	}
	switch magic {
	case magicUncompressed:
		return b[:min(len(b), want)], err
	case magicCompressed:
	default:
		return nil, fmt.Errorf("compressed RTF: %w", ErrDamaged)
	}
	var window [4096]byte
	at := copy(window[:], dictionary)
	out := make([]byte, 0, min(want, 8*len(b)+1))
	put := func(c byte) {
		window[at] = c
		at = (at + 1) & 4095
		if len(out) < want {
			out = append(out, c)
		}
	}
	for len(b) > 0 {
		control := b[0]
		b = b[1:]
		for bit := range 8 {
			if control>>bit&1 == 0 {
				if len(b) == 0 {
					return out, err
				}
				put(b[0])
				b = b[1:]
				continue
			}
			if len(b) < 2 {
				return out, fmt.Errorf("compressed RTF: %w", ErrDamaged)
			}
			ref := binary.BigEndian.Uint16(b)
			b = b[2:]
			from := int(ref >> 4)
			if from == at {
				return out, err
			}
			for range int(ref&15) + 2 {
				put(window[from])
				from = (from + 1) & 4095
			}
		}
	}
	return out, err
}
