# SPDX-License-Identifier: Apache-2.0
# What rpmbuild of EL9 and EL10 brings along (redhat-rpm-config, python-rpm-macros, systemd-rpm-macros) and Debian's
# does not, with the same names and the same meaning. packaging/build-rpm loads this file where there is no %%{rhel}.
# Written from the packaging guidelines; tests/packaging holds what comes of it against the spec.

%_buildshell            /bin/bash
# Sources belong to nobody in particular.
%_srcdefattr            (-,root,root)
%_sharedstatedir        /var/lib
%_unitdir               %{_prefix}/lib/systemd/system
%_sysusersdir           %{_prefix}/lib/sysusers.d
%_tmpfilesdir           %{_prefix}/lib/tmpfiles.d

# EL's own folder, also for Debian's Python, which would say dist-packages.
%__python3              /usr/bin/python3
%python3_version        %(%{__python3} -Ic 'import sys; print("%d.%d" % sys.version_info[:2])')
%python3_sitelib        %{_prefix}/lib/python%{python3_version}/site-packages
# EL10: no folder of the script or of the user in sys.path. Python 3.9 of EL9 knows no -P.
%py3_shebang_flags      %(%{__python3} -Ic 'import sys; print("sP" if sys.version_info >= (3, 11) else "s")')
%py3_build              CFLAGS="%{optflags}" %{__python3} setup.py --quiet build
%py3_install            DEB_PYTHON_INSTALL_LAYOUT=deb %{__python3} setup.py --quiet install -O1 --skip-build --root %{buildroot} --prefix %{_prefix} --install-lib %{python3_sitelib}

# On EL systemd-update-helper runs the same systemctl commands.
%systemd_requires Requires(post): systemd \
Requires(preun): systemd \
Requires(postun): systemd \
%{nil}
%systemd_post() if [ $1 -eq 1 ] && [ -x /usr/bin/systemctl ]; then \
    /usr/bin/systemctl --no-reload preset %{?*} || : \
fi \
%{nil}
%systemd_preun() if [ $1 -eq 0 ] && [ -x /usr/bin/systemctl ]; then \
    /usr/bin/systemctl --no-reload disable --now %{?*} || : \
fi \
%{nil}
%systemd_postun_with_restart() if [ $1 -ge 1 ] && [ -x /usr/bin/systemctl ]; then \
    /usr/bin/systemctl try-restart %{?*} || : \
fi \
%{nil}
# NAME FILE: before the files of the package are there, so that they can belong to the user.
%sysusers_create_package() systemd-sysusers --replace=%{_sysusersdir}/%1.conf - <<SYSUSERS || : \
%(cat %2) \
SYSUSERS\
%{nil}

# EL's brp-compress and byte compilation are what matters for this package; it holds no machine code.
%__os_install_post      bash %{_rpmconfigdir}/brp-compress %{_prefix} && bash %{_rpmconfigdir}/brp-python-hardlink
