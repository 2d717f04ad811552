// A service of another domain that is called through qrexec's program.
#pragma once

#include "bin/qvmctl/client.hpp"
#include "drivers/io/unique_fd.hpp"
#include "drivers/process/spawn.hpp"

#include <memory>
#include <string>

namespace qubes::ctl {

/// The program reads what is written to `socket` and answers there. It ends with this.
class service_call {
public:
  enum class lasting { with_its_thread, as_it_likes };

  /// Which service of whom is in the request; its payload is for the caller to write.
  static expected<std::unique_ptr<service_call>> begin(const std::string& program,
                                                       const request& what, lasting how);
  ~service_call();
  service_call(const service_call&) = delete;
  service_call& operator=(const service_call&) = delete;

  /// Blocking, unless the caller has it otherwise.
  int socket() const noexcept { return socket_.get(); }

  /// Why it closed the connection without a word.
  failure silence();

private:
  service_call(std::string program, std::string service, std::string target)
      : program_(std::move(program)), service_(std::move(service)), target_(std::move(target)) {}

  std::string last_complaint() const;

  std::string program_, service_, target_;
  drivers::child child_{};
  drivers::unique_fd socket_;
  drivers::unique_fd complaints_; ///< what it wrote to its standard error
};

} // namespace qubes::ctl
