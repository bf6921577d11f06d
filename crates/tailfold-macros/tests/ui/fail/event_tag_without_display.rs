#[derive(tailfold::Event)]
#[event(category = "course")]
enum CourseEvent {
    #[event(tag = "students:{students}")]
    Booked { students: Vec<String> },
}

fn main() {}
