package bundle

import (
	"strings"
)

// The columns of the load file, in order. BUNDLE.md says what each holds.
const (
	colBegDoc = iota
	colEndDoc
	colBegAttach
	colEndAttach
	colParentID
	colAttachIDs
	colCustodian
	colAllCustodians
	colRecordType
	colFrom
	colTo
	colCc
	colBcc
	colEnvFrom
	colEnvRcpt
	colEnvSource
	colSubject
	colDateSent
	colTimeSent
	colDateReceived
	colTimeReceived
	colTimeZone
	colMessageID
	colInReplyTo
	colReferences
	colThreadID
	colAttachCount
	colAttachNames
	colFileName
	colFileExt
	colMimeType
	colFileSize
	colImportance
	colMD5
	colSHA256
	colMIH
	colFamilyHash
	colDedupeHash
	colArchiveID
	colException
	colNativeLink
	colTextLink
	columns
)

var columnNames = strings.Fields(`BEGDOC ENDDOC BEGATTACH ENDATTACH PARENTID ATTACHIDS CUSTODIAN ALLCUSTODIANS RECORDTYPE FROM TO CC BCC ENVFROM ENVRCPT
	ENVSOURCE SUBJECT DATESENT TIMESENT DATERECEIVED TIMERECEIVED TIMEZONE MESSAGEID INREPLYTO REFERENCES THREADID ATTACHCOUNT ATTACHNAMES FILENAME FILEEXT
	MIMETYPE FILESIZE IMPORTANCE MD5HASH SHA256HASH EDRMMIH FAMILYHASH DEDUPEHASH ARCHIVEID EXCEPTION NATIVELINK TEXTLINK`)

// row is one document in the load file.
type row [columns]string

// Concordance's delimiters: each value between þ, values apart by 0x14, a line end within a value as ®.
const (
	datQuote     = "\u00fe"
	datSeparator = "\x14"
	byteOrder    = "\ufeff"
)

var datValue = strings.NewReplacer("\r\n", "\u00ae", "\n", "\u00ae", "\r", "\u00ae", "\u00fe", "th", "\u00ae", "(R)", "\x14", " ", "\x00", "")

func appendDAT(b []byte, values []string) []byte {
	for i, v := range values {
		if i > 0 {
			b = append(b, datSeparator...)
		}
		b = append(b, datQuote...)
		b = append(b, datValue.Replace(v)...)
		b = append(b, datQuote...)
	}
	return append(b, "\r\n"...)
}

// appendCSV appends a line as RFC 4180 has it. A cell that a spreadsheet would take for a formula gets a ' before it.
func appendCSV(b []byte, values ...string) []byte {
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		if v != "" && strings.IndexByte("=+-@\t\r", v[0]) >= 0 {
			v = "'" + v
		}
		v = strings.ReplaceAll(v, "\x00", "")
		if !strings.ContainsAny(v, "\",\r\n") {
			b = append(b, v...)
			continue
		}
		b = append(b, '"')
		b = append(b, strings.ReplaceAll(v, `"`, `""`)...)
		b = append(b, '"')
	}
	return append(b, "\r\n"...)
}

// summary is the line of a message in index.csv.
func (r *row) summary() []string {
	return []string{
		r[colBegDoc], r[colEndAttach], join(" ", r[colDateReceived], r[colTimeReceived]), join(" ", r[colDateSent], r[colTimeSent]), r[colFrom], r[colTo], r[colCc], r[colBcc],
		r[colEnvFrom], r[colEnvRcpt], r[colSubject], r[colAttachNames], r[colFileSize], r[colSHA256], r[colArchiveID], r[colNativeLink], r[colException],
	}
}

var summaryNames = []string{"Number", "Last number of family", "Received (UTC)", "Sent (UTC)", "From", "To", "Cc", "Bcc", "Envelope sender", "Envelope recipients",
	"Subject", "Attachments", "Bytes", "SHA-256", "Record", "File", "Exception"}

// join joins what is not empty.
func join(by string, values ...string) string {
	var list []string
	for _, v := range values {
		if v != "" {
			list = append(list, v)
		}
	}
	return strings.Join(list, by)
}
