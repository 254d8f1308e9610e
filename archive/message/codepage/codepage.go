// Package codepage knows the numbers that Windows has for charsets.
package codepage

import "strconv"

// Charset gives the MIME name of a Windows code page.
func Charset(page uint32) string {
	switch page {
	case 0, 20127:
		return "windows-1252"
	case 10000:
		return "macintosh"
	case 437, 850, 852, 855, 858, 860, 862, 863, 865, 866:
		return "ibm" + strconv.Itoa(int(page))
	case 874:
		return "windows-874"
	case 932:
		return "shift_jis"
	case 936, 54936:
		return "gb18030"
	case 949, 51949:
		return "euc-kr"
	case 950:
		return "big5"
	case 1200:
		return "utf-16le"
	case 20866:
		return "koi8-r"
	case 21866:
		return "koi8-u"
	case 50220, 50221, 50222:
		return "iso-2022-jp"
	case 51932, 20932:
		return "euc-jp"
	case 65001:
		return "utf-8"
	}
	switch {
	case page >= 1250 && page <= 1258:
		return "windows-" + strconv.Itoa(int(page))
	case page >= 28591 && page <= 28606:
		return "iso-8859-" + strconv.Itoa(int(page-28590))
	}
	return "windows-1252"
}
