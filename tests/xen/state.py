"""A made-up host: /var/lib/qubes and /etc/qubes of dom0 with domains small enough for the lab."""
import os
import shutil
from xml.etree import ElementTree as xml

STATE = "/var/lib/qubes"
CONFIG = "/etc/qubes/qvmd.toml"
MIB = 1 << 20
SIZES = {"root": 16 * MIB, "private": 8 * MIB, "volatile": 8 * MIB}
LABELS = ("red", "orange", "yellow", "green", "gray", "blue", "purple", "black")
DEFAULTS = {"default_kernel": "lab", "default_netvm": "sys-net", "default_pool_kernel": "linux-kernel",
            "default_template": "tmpl", "updatevm": "sys-net", "default_dispvm": "dvm"}
MEMORY = 160

SETTINGS = """[programs]
qubesdb_daemon = "{qubesdb_daemon}"
qrexec_daemon = "{qrexec_daemon}"
qrexec_client = "{qrexec_client}"
rpc_multiplexer = ""
sync_menus = ""
input_trigger = ""
[memory]
manager = "{manager}"
[log]
target = "stderr"
level = "debug"
# Without hardware virtualisation, beside other work, a call can take minutes.
[limits]
host_call_seconds = {host_call}
guest_call_seconds = 600
rescue_call_seconds = 600
command_seconds = 600
[hypervisor]
silence_seconds = {silence}
"""


def _domain(parent, qid, name, klass, **properties):
    template = klass == "TemplateVM"
    place = ("vm-templates/" if template else "appvms/") + name
    os.makedirs(f"{STATE}/{place}")
    for volume in ("root", "private") if template else ("private",):
        with open(f"{STATE}/{place}/{volume}.img", "wb") as image:
            image.truncate(SIZES[volume])
    values = {"label": "red", "name": name, "qid": qid,
              "uuid": f"{qid:08x}-0000-4000-8000-{qid:012x}", "memory": MEMORY, "maxmem": 0, "vcpus": 1,
              "virt_mode": "pv", "kernelopts": "mitigations=off audit=0 sysrq_always_enabled"}
    if not template:
        values["template"] = "tmpl"
    values.update(properties)
    node = xml.SubElement(parent, "domain", {"id": f"domain-{qid}", "class": klass})
    group = xml.SubElement(node, "properties")
    for key, value in values.items():
        xml.SubElement(group, "property", name=key).text = str(value)
    xml.SubElement(node, "features")
    xml.SubElement(node, "tags")
    volumes = xml.SubElement(node, "volume-config")
    for volume, kept in (("root", template), ("private", True), ("volatile", False)):
        source = volume == "root" and not template
        one = xml.SubElement(volumes, "volume", {
            "name": volume, "pool": "varlibqubes", "vid": f"{place}/{volume}", "revisions_to_keep": "1",
            "rw": "True", "save_on_stop": str(kept), "snap_on_start": str(source),
            "size": str(SIZES[volume])})
        if source:
            one.set("source", "vm-templates/tmpl/root")
    xml.SubElement(volumes, "volume", {
        "name": "kernel", "pool": "linux-kernel", "vid": "lab", "revisions_to_keep": "0", "rw": "False",
        "save_on_stop": "False", "snap_on_start": "False"})


def make(qubesdb_daemon="", manager="", qrexec_daemon="", qrexec_client="", host_call=600, silence=900):
    """Everything anew; no domain may run and no daemon."""
    kernels = f"{STATE}/vm-kernels"
    for entry in ("appvms", "vm-templates", "backup", "operations", "qubes.xml"):
        path = f"{STATE}/{entry}"
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.remove(path)
    for path in ("appvms", "vm-templates", "backup"):
        os.makedirs(f"{STATE}/{path}")
    for path in ("/etc/qubes/policy.d", "/etc/qubes/backup", "/var/log/qubes", "/usr/share/hwdata",
                 "/etc/systemd/system/multi-user.target.wants"):
        os.makedirs(path, exist_ok=True)
    with open("/usr/share/hwdata/pci.ids", "a", encoding="ascii"):
        pass
    if not os.path.exists(f"{kernels}/lab"):
        for kernel in ("lab", "broken"):
            os.makedirs(f"{kernels}/{kernel}")
            os.link("/lab/initramfs", f"{kernels}/{kernel}/initramfs")
            with open(f"{kernels}/{kernel}/modules.img", "wb") as image:
                image.truncate(MIB)
        os.link("/lab/vmlinux", f"{kernels}/lab/vmlinuz")
        with open(f"{kernels}/broken/vmlinuz", "wb") as image:
            image.write(b"no kernel" * 1000)

    top = xml.Element("qubes")
    labels = xml.SubElement(top, "labels")
    for i, name in enumerate(LABELS, 1):
        xml.SubElement(labels, "label", id=f"label-{i}", color=f"0x{i * 1000:06x}").text = name
    pools = xml.SubElement(top, "pools")
    xml.SubElement(pools, "pool", name="varlibqubes", dir_path=STATE, driver="file-reflink",
                   revisions_to_keep="1", ephemeral_volatile="False")
    xml.SubElement(pools, "pool", name="linux-kernel", dir_path=kernels, driver="linux-kernel")
    group = xml.SubElement(top, "properties")
    for key, value in DEFAULTS.items():
        xml.SubElement(group, "property", name=key).text = value
    domains = xml.SubElement(top, "domains")
    dom0 = xml.SubElement(domains, "domain", {"id": "domain-0", "class": "AdminVM"})
    xml.SubElement(xml.SubElement(dom0, "properties"), "property", name="label").text = "black"
    xml.SubElement(dom0, "features")
    xml.SubElement(dom0, "tags")

    names = [("tmpl", "TemplateVM", {}),
             ("sys-net", "AppVM", {"netvm": "", "provides_network": "True"}),
             ("sys-fw", "AppVM", {"netvm": "sys-net", "provides_network": "True"}),
             ("work", "AppVM", {"netvm": "sys-fw"}),
             ("dvm", "AppVM", {"netvm": "", "template_for_dispvms": "True"}),
             ("vault", "AppVM", {"netvm": ""}),
             ("pvh", "AppVM", {"netvm": "", "virt_mode": "pvh"}),
             ("balloon", "AppVM", {"netvm": "", "maxmem": 400}),
             ("hvm", "AppVM", {"netvm": "", "virt_mode": "hvm"})]
    names += [(f"app{i}", "AppVM", {}) for i in range(1, 5)]
    names += [(f"lone{i}", "AppVM", {"netvm": ""}) for i in range(1, 13)]
    for qid, (name, klass, properties) in enumerate(names, 1):
        _domain(domains, qid, name, klass, **properties)
    xml.ElementTree(top).write(f"{STATE}/qubes.xml")
    with open(CONFIG, "w", encoding="ascii") as file:
        file.write(SETTINGS.format(qubesdb_daemon=qubesdb_daemon, manager=manager,
                                   qrexec_daemon=qrexec_daemon, qrexec_client=qrexec_client,
                                   host_call=host_call, silence=silence))
