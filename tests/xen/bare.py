"""Direct calls of libvirt: what a start costs without qvmd, on connections of their own."""
import ctypes

URI = b"xen:///system"
PAUSED = 1  # VIR_DOMAIN_START_PAUSED

_libvirt = ctypes.CDLL("libvirt.so.0")
for _name, _result, _arguments in (
        ("virConnectOpen", ctypes.c_void_p, [ctypes.c_char_p]),
        ("virConnectClose", ctypes.c_int, [ctypes.c_void_p]),
        ("virDomainCreateXML", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint]),
        ("virDomainResume", ctypes.c_int, [ctypes.c_void_p]),
        ("virDomainDestroy", ctypes.c_int, [ctypes.c_void_p]),
        ("virDomainFree", ctypes.c_int, [ctypes.c_void_p])):
    _function = getattr(_libvirt, _name)
    _function.restype = _result
    _function.argtypes = _arguments


class Refused(Exception):
    """libvirt refused a call; the log of libvirt says why."""


def _must(x):
    if x is None or x == -1:
        raise Refused
    return x


class Guest:
    """One guest, made and ended on a connection of its own."""

    def __init__(self, xml):
        self._xml = xml.encode()
        self._link = _must(_libvirt.virConnectOpen(URI))
        self._domain = None

    def start(self):
        self._domain = _must(_libvirt.virDomainCreateXML(self._link, self._xml, PAUSED))
        _must(_libvirt.virDomainResume(self._domain))

    def destroy(self):
        if self._domain:
            _must(_libvirt.virDomainDestroy(self._domain))
            _libvirt.virDomainFree(self._domain)
            self._domain = None

    def close(self):
        self.destroy()
        _libvirt.virConnectClose(self._link)
